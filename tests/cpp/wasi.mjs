// Runs a WASI program under node: node wasi.mjs PROGRAM [ARGUMENTS]. Folders named by the arguments are visible to it.
import { readFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { argv, exit } from 'node:process';
import { WASI } from 'node:wasi';

const [program, ...args] = argv.slice(2);
const preopens = Object.fromEntries(args.filter((arg) => existsSync(arg)).map((arg) => [arg, arg]));
const wasi = new WASI({ version: 'preview1', args: [program, ...args], preopens });
const module = await WebAssembly.compile(await readFile(program));
exit(wasi.start(await WebAssembly.instantiate(module, wasi.getImportObject())));
