// Decodes .doh files with doh.wasm, in browsers, node and other JavaScript engines.
//
//     const doh = await Doh.load(wasmBytes);          // a BufferSource, a Response or a promise of one, or a WebAssembly.Module
//     const image = doh.decode(fileBytes);            // image.samples, image.shape, image.channels
//     const part = doh.decode(fileBytes, {grid: [1024, 1536], offset: [100, 200], extent: [64, 64]});
//     const info = doh.info(fileBytes);               // what the header says, checked, at no cost

const SIGNALS = ['array', 'image', 'occupancy', 'audio', 'volume', 'video'];
const SAMPLE_TYPES = ['u1', 'u8', 'u16', 's16'];
const SAMPLE_ARRAYS = [Uint8Array, Uint8Array, Uint16Array, Int16Array];
const TOPS = [1, 255, 65535]; // of u1, u8, u16
const GENERATORS = ['tied', 'dense'];
const LADDERS = ['octaves', '1.4'];
const MAX_DIMS = 4;

// The order of the words of doh_wasm.cpp.
const LIMITS = ['maxSamples', 'maxLatents', 'maxWeights', 'maxWork', 'maxMemory'];
const INFO = [
  'version', 'signal', 'sampleType', 'dims', 'channels', 'shape0', 'shape1', 'shape2', 'shape3', 'width', 'depth', 'frequencies', 'ladder', 'generator',
  'latents', 'seed', 'weights', 'points', 'samplesBytes', 'work', 'bytesPerSample', 'samplesCrc', 'fileCrc', 'headerBytes', 'payloadBytes', 'flags',
  'parts0', 'parts1', 'parts2', 'parts3', 'partLatents', 'partWeights', 'workspaceBytes',
];
const LAYOUT = (INFO.length << 16) | (LIMITS.length << 8) | (3 * MAX_DIMS);
const KERNEL_BYTES = 32;
const MAX_U64 = 2n ** 64n - 1n;
const PAGE = 65536;

/** What the decoder refuses: `name` and `number` are those of the format's errors, such as 'BAD_MAGIC' and -2. */
export class DohError extends Error {
  constructor(name, text, number) {
    super(text);
    this.name = name;
    this.number = number;
  }
}

export class Doh {
  #exports;
  #heap;

  /** Makes a decoder; prefer Doh.load. `instance` is one of doh.wasm, which imports nothing. */
  constructor(instance) {
    this.#exports = instance.exports;
    if (this.#exports.doh_wasm_layout() !== LAYOUT) throw new Error('doh.mjs and doh.wasm are of different versions');
    this.#heap = Math.ceil(this.#exports.doh_wasm_heap() / 64) * 64;
  }

  /** A decoder from doh.wasm: a BufferSource, a WebAssembly.Module, a Response, or a promise of one of them. */
  static async load(source) {
    const given = await source;
    const bytes = typeof Response === 'function' && given instanceof Response ? await given.arrayBuffer() : given;
    const module = bytes instanceof WebAssembly.Module ? bytes : await WebAssembly.compile(bytes);
    const instance = await WebAssembly.instantiate(module, {});
    instance.exports._initialize?.();
    return new Doh(instance);
  }

  get version() {
    return this.#text(this.#exports.doh_wasm_version());
  }

  /**
   * The checked header. `limits`: see decode. Throws DohError. `seed` is a BigInt, all other numbers are Numbers. `parts` are the boxes along each dimension
   * that have a network of their own; where there are several, width and depth are the largest, latents and weights sums.
   */
  info(file, limits = {}) {
    const place = this.#place(file, limits);
    this.#check(this.#exports.doh_wasm_info(place.file, place.fileBytes, place.limits, place.info));
    const words = new BigUint64Array(this.#memory().buffer, place.info, INFO.length);
    const info = Object.fromEntries(INFO.map((name, i) => [name, name === 'seed' ? words[i] : Number(words[i])]));
    const shape = [info.shape0, info.shape1, info.shape2, info.shape3].slice(0, info.dims);
    const parts = [info.parts0, info.parts1, info.parts2, info.parts3].slice(0, info.dims);
    for (let t = 0; t < MAX_DIMS; ++t) {
      delete info[`shape${t}`];
      delete info[`parts${t}`];
    }
    return {
      ...info,
      shape,
      parts,
      signal: SIGNALS[info.signal],
      sampleType: SAMPLE_TYPES[info.sampleType],
      generator: GENERATORS[info.generator],
      ladder: LADDERS[info.ladder],
    };
  }

  /**
   * Decodes the whole signal, whose checksum is compared, or a box of any grid.
   *
   * file: Uint8Array, ArrayBuffer or another view of the file's bytes.
   * grid: points along each dimension, slowest first; the file's own by default. [2 * height, 2 * width] is a zoom by two.
   * offset, extent: the box, in points of the grid; all of it by default. The work is in proportion to the extent.
   * limits: {maxSamples, maxLatents, maxWeights, maxWork, maxMemory}, whole numbers or BigInts; the format's defaults where left out or 0.
   * kernel: 'wasm128' or 'scalar'; the fastest by default. The samples do not depend on it.
   *
   * Returns {samples, shape, channels, sampleType, signal}: samples is a Uint8Array, Uint16Array or Int16Array of its own, row-major, channels last;
   * shape is the extent. Throws DohError.
   */
  decode(file, { grid, offset, extent, limits = {}, kernel = '' } = {}) {
    const whole = grid === undefined && offset === undefined && extent === undefined;
    const info = this.info(file, whole ? limits : { ...limits, maxSamples: MAX_U64, maxWork: MAX_U64 }); // a box has limits of its own
    const box = whole ? null : boxOf(info, grid, offset, extent);
    let place = this.#place(file, limits, kernel, box);
    const call = (dst, dstBytes, work, workBytes) =>
      this.#exports.doh_wasm_decode(place.file, place.fileBytes, place.limits, place.kernel, box ? place.box : 0, dst, dstBytes, work, workBytes);

    const refusal = call(place.end, 0, place.end, 0); // judged before any memory is asked for
    if (this.#name(refusal) !== 'BUFFER_TOO_SMALL') this.#check(refusal);
    const shape = box ? box.extent : info.shape;
    const bytes = shape.reduce((product, n) => product * n, info.channels * info.bytesPerSample);
    const work = aligned(place.end + bytes);
    this.#reserve(work + info.workspaceBytes);
    this.#check(call(place.end, bytes, work, info.workspaceBytes));

    const type = SAMPLE_TYPES.indexOf(info.sampleType);
    const samples = new SAMPLE_ARRAYS[type](this.#memory().buffer.slice(place.end, place.end + bytes));
    return { samples, shape: [...shape], channels: info.channels, sampleType: info.sampleType, signal: info.signal };
  }

  #memory() {
    return this.#exports.memory;
  }

  // Grows the memory to hold `end` bytes.
  #reserve(end) {
    const missing = end - this.#memory().buffer.byteLength;
    if (missing <= 0) return;
    try {
      this.#memory().grow(Math.ceil(missing / PAGE));
    } catch {
      throw new DohError('LIMIT_MEMORY', `this engine gives no ${end} bytes of memory`, -24);
    }
  }

  // Copies the arguments into the memory: their addresses, and where free memory begins.
  #place(file, limits, kernel = '', box = null) {
    const bytes = ArrayBuffer.isView(file) ? new Uint8Array(file.buffer, file.byteOffset, file.byteLength) : new Uint8Array(file);
    const at = { limits: this.#heap, fileBytes: bytes.length };
    at.info = at.limits + 8 * LIMITS.length;
    at.box = at.info + 8 * INFO.length;
    at.kernel = at.box + 8 * 3 * MAX_DIMS;
    at.file = at.kernel + KERNEL_BYTES;
    at.end = aligned(at.file + bytes.length);
    this.#reserve(at.end + 64);

    const { buffer } = this.#memory();
    new BigUint64Array(buffer, at.limits, LIMITS.length).set(limitWords(limits));
    const name = new Uint8Array(buffer, at.kernel, KERNEL_BYTES).fill(0);
    name.set(new TextEncoder().encode(kernel).subarray(0, KERNEL_BYTES - 1));
    if (box) {
      const words = new BigUint64Array(buffer, at.box, 3 * MAX_DIMS).fill(0n);
      [box.grid, box.offset, box.extent].forEach((numbers, i) => words.set(Array.from(numbers, BigInt), i * MAX_DIMS));
    }
    new Uint8Array(buffer, at.file, bytes.length).set(bytes);
    return at;
  }

  #text(address) {
    const bytes = new Uint8Array(this.#memory().buffer, address);
    return new TextDecoder().decode(bytes.slice(0, bytes.indexOf(0)));
  }

  #name(error) {
    return this.#text(this.#exports.doh_wasm_error_name(error));
  }

  #check(error) {
    if (error !== 0) throw new DohError(this.#name(error), this.#text(this.#exports.doh_wasm_error_text(error)), error);
  }
}

/**
 * RGBA bytes for a canvas (new ImageData(toRgba(image), width, height)) of a decoded image of 1 to 4 channels: grey, grey + alpha, RGB, RGBA. Throws
 * RangeError for samples that are no brightness (s16) and for other numbers of channels.
 */
export function toRgba({ samples, channels, sampleType }) {
  if (!['u1', 'u8', 'u16'].includes(sampleType) || channels > 4) throw new RangeError(`${channels} channels of ${sampleType} are no picture`);
  const top = TOPS[SAMPLE_TYPES.indexOf(sampleType)];
  const grey = channels < 3;
  const rgba = new Uint8ClampedArray((samples.length / channels) * 4);
  const byte = (value) => (top === 255 ? value : Math.round((value * 255) / top));
  for (let from = 0, to = 0; from < samples.length; from += channels, to += 4) {
    for (let c = 0; c < 3; ++c) rgba[to + c] = byte(samples[from + (grey ? 0 : c)]);
    rgba[to + 3] = channels % 2 === 0 ? byte(samples[from + channels - 1]) : 255;
  }
  return rgba;
}

function aligned(address) {
  return Math.ceil(address / 64) * 64;
}

// Limits in the order of doh_wasm.cpp. What is no limit is an error, not no limit.
function limitWords(limits) {
  for (const [name, value] of Object.entries(limits)) {
    if (!LIMITS.includes(name)) throw new DohError('BAD_ARGUMENT', `there is no limit ${name}; there are ${LIMITS.join(', ')}`, -30);
    const whole = typeof value === 'bigint' || Number.isInteger(value) || value === undefined;
    if (!whole || value < 0 || value > MAX_U64) throw new DohError('BAD_ARGUMENT', `${name} takes a whole number from 0 to 2^64 - 1, not ${value}`, -30);
  }
  return LIMITS.map((name) => BigInt(limits[name] ?? 0));
}

// The box that a caller means; the decoder checks that it lies in its grid.
function boxOf(info, grid = info.shape, offset = info.shape.map(() => 0), extent = grid.map((n, t) => n - offset[t])) {
  for (const numbers of [grid, offset, extent])
    if (numbers.length !== info.dims || !numbers.every((n) => Number.isSafeInteger(n) && n >= 0))
      throw new DohError('BAD_ARGUMENT', `grid, offset and extent take ${info.dims} numbers each, none negative`, -30);
  return { grid, offset, extent };
}
