import { readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { constants, zstdCompressSync } from 'node:zlib';
import { build, type Plugin } from 'esbuild';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
const here = join(root, 'deploy/package');

/** Puts the native module into the bundle, and the loader that unpacks it in place of the usual one. */
function koffiInside(native: string): Plugin {
  return {
    name: 'koffi-inside',
    setup({ onResolve, onLoad }) {
      onResolve({ filter: /\/koffi\.ts$/ }, () => ({ path: join(here, 'koffi-inside.ts') }));
      onResolve({ filter: /^koffi-native$/ }, () => ({ path: native }));
      onLoad({ filter: /koffi\.node$/ }, ({ path }) => {
        const params = { [constants.ZSTD_c_compressionLevel]: 19 };
        const packed = zstdCompressSync(readFileSync(path), { params }).toString('base64');
        return { contents: `export const packed = Buffer.from('${packed}', 'base64');` };
      });
    },
  };
}

/**
 * Puts liblzma's WebAssembly into the bundle, which has no file beside it to read it from: for the
 * package itself, and for `liblzma-file.ts`.
 */
export const liblzmaInside: Plugin = {
  name: 'liblzma-inside',
  setup({ onResolve, onLoad }) {
    const wasm = join(root, 'node_modules/node-liblzma/lib/wasm/liblzma.wasm');
    const inside = `import { wasm } from 'liblzma-wasm';`;
    onResolve({ filter: /^liblzma-wasm$/ }, () => ({ path: wasm }));
    onLoad({ filter: /liblzma\.wasm$/ }, ({ path }) => {
      const bytes = readFileSync(path).toString('base64');
      return { contents: `export const wasm = Buffer.from('${bytes}', 'base64');` };
    });
    onLoad({ filter: /\/liblzma-file\.ts$/ }, () => ({
      contents: `${inside} export async function readLiblzma() { return wasm; }`,
    }));
    onLoad({ filter: /node-liblzma\/lib\/wasm\/bindings\.js$/ }, ({ path }) => {
      const reader = 'async function readLocalWasmBinary() {';
      const [before, after] = readFileSync(path, 'utf8').split(reader);
      if (after === undefined) throw new Error('node-liblzma reads its WebAssembly in another way');
      return { contents: `${inside} ${before}${reader} return wasm;${after}` };
    });
  },
};

/**
 * Writes the host client as one JavaScript file: `esm` for Node.js, `cjs` for the executable that
 * carries Node.js with it. `koffi` is its native module for the processor that this is for.
 */
export async function bundle(file: string, format: 'esm' | 'cjs', koffi: string): Promise<void> {
  // What modules of the older kind, such as koffi, find in their scope.
  const banner =
    "import{createRequire}from'node:module';const require=createRequire(import.meta.url)," +
    '__filename=import.meta.filename,__dirname=import.meta.dirname;';
  await build({
    entryPoints: [join(root, 'host-client/main.ts')],
    outfile: file,
    ...{
      bundle: true,
      platform: 'node',
      target: 'node24',
      minifySyntax: true,
      logLevel: 'warning',
    },
    ...{ format, banner: { js: format === 'esm' ? banner : '' }, legalComments: 'eof' },
    // In the executable nothing stands for the address of a module but the program itself.
    define:
      format === 'cjs' ? { 'import.meta.url': '__url', 'import.meta.dirname': '__dirname' } : {},
    ...(format === 'cjs' ? { inject: [join(here, 'module-url.js')] } : {}),
    plugins: [koffiInside(koffi), liblzmaInside],
  });
}
