// Decodes all conformance vectors with doh.wasm under node: node wasm.test.mjs DOH.wasm... One line per module, then 'N passed, 0 failed'.
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { Doh, DohError, toRgba } from '../../cpp/wasm/doh.mjs';

const vectors = new URL('../vectors/', import.meta.url);
const read = (name) => readFile(new URL(name, vectors));
const table = async (name) => (await read(name)).toString().trim().split('\n').filter((line) => !line.startsWith('#')).map((line) => line.split('\t'));
const numbers = (text) => text.split(',').map(Number);
const sha256 = ({ samples }) => createHash('sha256').update(new Uint8Array(samples.buffer)).digest('hex');

let passed = 0;
let failed = 0;

function expect(what, got, wanted) {
  if (got === wanted) return void ++passed;
  ++failed;
  console.error(`${what}: ${got}, not ${wanted}`);
}

// The name of the error that `work` throws.
function errorOf(work) {
  try {
    work();
    return 'no error';
  } catch (error) {
    const ours = error instanceof RangeError || (error instanceof DohError && error.number < 0);
    return ours && error.message.length > 0 ? error.name : `${error.stack}`;
  }
}

async function check(name) {
  const module = await WebAssembly.compile(await readFile(name));
  expect(`${name}, imports`, WebAssembly.Module.imports(module).length, 0);
  const doh = await Doh.load(module);
  const kernels = ['wasm128', 'scalar'].filter((kernel) => errorOf(() => doh.decode(first, { kernel })) !== 'UNKNOWN_KERNEL');

  for (const kernel of kernels) {
    for (const [file, , hash] of await table('valid/expected.tsv')) {
      expect(`${file}, ${kernel}`, sha256(doh.decode(await read(`valid/${file}`), { kernel })), hash);
    }
    for (const [file, grid, offset, extent, hash] of await table('valid/regions.tsv')) {
      const image = doh.decode(await read(`valid/${file}`), { kernel, grid: numbers(grid), offset: numbers(offset), extent: numbers(extent) });
      expect(`${file}, ${offset} + ${extent} of ${grid}, ${kernel}`, sha256(image), hash);
      expect(`${file}, shape`, image.shape.join(), extent);
    }
    for (const [file, error] of await table('invalid/expected.tsv')) {
      const data = await read(`invalid/${file}`);
      expect(`${file}, ${kernel}`, errorOf(() => doh.decode(data, { kernel })), error);
    }
  }

  const { signal, sampleType, shape, channels, seed, latents } = doh.info(first);
  expect('info', [signal, sampleType, shape, channels, typeof seed, latents].join(), 'image,u8,31,29,3,bigint,200');
  expect('parts of one network', doh.info(first).parts.join(), '1,1');
  const mosaic = doh.info(await read('valid/mosaic-2x3-of-19x23.doh'));
  expect('parts of a mosaic', [mosaic.version, ...mosaic.parts].join(), '2,2,3');
  expect('sums over its networks', mosaic.latents > mosaic.partLatents && mosaic.weights > mosaic.partWeights, true);
  expect('no other words', Object.keys(mosaic).filter((key) => /\d/.test(key)).join(), '');
  expect('ArrayBuffer', sha256(doh.decode(new Uint8Array(first).buffer)), sha256(doh.decode(first)));
  const inside = new Uint8Array([0, ...first, 0]).subarray(1, first.length + 1);
  expect('a file inside a buffer', sha256(doh.decode(inside)), sha256(doh.decode(first)));
  expect('the whole grid as a box', sha256(doh.decode(first, { offset: [0, 0] })), sha256(doh.decode(first)));
  expect('the default extent', doh.decode(first, { grid: [62, 58], offset: [60, 50] }).shape.join(), '2,8');
  expect('a limit', errorOf(() => doh.decode(first, { limits: { maxSamples: 31 * 29 * 3 - 1 } })), 'LIMIT_SAMPLES');
  expect('a limit of a box', errorOf(() => doh.decode(first, { extent: [31, 20], limits: { maxSamples: 100 } })), 'LIMIT_SAMPLES');
  expect('a box within limits', doh.decode(first, { extent: [4, 5], limits: { maxSamples: 100 } }).samples.length, 60);
  for (const [limit, value] of [['max_samples', 1], ['maxSample', 1], ['maxSamples', -1], ['maxWork', 2 ** 64], ['maxWork', 1.5], ['maxWork', '9'], ['maxWork', NaN]])
    expect(`${limit} ${value}`, errorOf(() => doh.decode(first, { limits: { [limit]: value } })), 'BAD_ARGUMENT');
  expect('0, the default limit', doh.decode(first, { limits: { maxSamples: 0, maxWork: undefined, maxMemory: 2n ** 64n - 1n } }).samples.length, 31 * 29 * 3);
  expect('typed arrays', doh.decode(first, { grid: new Uint32Array([62, 58]), offset: new Uint16Array([60, 50]) }).shape.join(), '2,8');
  expect('memory', errorOf(() => doh.info(first, { maxMemory: 1000 })), 'LIMIT_MEMORY');
  expect('outside', errorOf(() => doh.decode(first, { offset: [31, 0], extent: [1, 1] })), 'BAD_ARGUMENT');
  expect('negative', errorOf(() => doh.decode(first, { offset: [-1, 0], extent: [1, 1] })), 'BAD_ARGUMENT');
  expect('too few numbers', errorOf(() => doh.decode(first, { grid: [31] })), 'BAD_ARGUMENT');
  expect('a kernel that is none', errorOf(() => doh.decode(first, { kernel: 'none' })), 'UNKNOWN_KERNEL');
  expect('no file', errorOf(() => doh.decode(new Uint8Array(0))), 'TRUNCATED');
  const rgba = toRgba(doh.decode(first));
  expect('RGBA', [...rgba.subarray(0, 4)].join(), [...doh.decode(first).samples.subarray(0, 3), 255].join());
  expect('grey RGBA', [...toRgba({ samples: new Uint16Array([65535, 0]), channels: 2, sampleType: 'u16' })].join(), '255,255,255,0');
  expect('RGBA of sound', errorOf(() => toRgba({ samples: new Int16Array([-5]), channels: 1, sampleType: 's16' })), 'RangeError');
  console.log(`${name}: kernels ${kernels.join(', ')}; doh ${doh.version}`);
}

const first = await read('valid/image-prime-31x29.doh');
for (const name of process.argv.slice(2)) await check(name);
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed || !passed ? 1 : 0);
