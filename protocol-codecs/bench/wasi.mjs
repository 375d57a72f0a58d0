// Runs a wasm32-wasip1 program in V8: node wasi.mjs program.wasm [argument...]

import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { WASI } from "node:wasi";

const [program, ...args] = process.argv.slice(2);
// Criterion keeps its results in files; a fresh directory, so that no run is compared with an old one.
const home = await mkdtemp(join(tmpdir(), "criterion-"));

const wasi = new WASI({
  version: "preview1",
  args: [program, ...args],
  env: { CRITERION_HOME: "/" },
  preopens: { "/": home },
});
const module = await WebAssembly.compile(await readFile(program));
const instance = await WebAssembly.instantiate(module, wasi.getImportObject());
const status = wasi.start(instance);
await rm(home, { recursive: true, force: true });
process.exit(status);
