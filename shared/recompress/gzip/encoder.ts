import { crc32 } from 'node:zlib';
import { DEFLATER_MEMORY, Deflater, type DeflateSettings } from '../deflate/deflater.ts';
import type { Content, Encoder } from '../encoder.ts';
import { type Recipe, readSettings } from '../recipe.ts';
import { GZIP_TRAILER_SIZE } from './header.ts';

const LEVEL = [1, 9] as const;
/** What the slowest level takes for machine code; text takes a third of it. */
const SECONDS_PER_MEGABYTE = 0.2;

function settingsOf(recipe: Recipe): Required<DeflateSettings> {
  if (recipe.encoder === 'gnu-gzip') {
    return { style: 'gnu', memoryLevel: 8, ...readSettings(recipe, { level: LEVEL }) };
  }
  return { style: 'zlib', ...readSettings(recipe, { level: LEVEL, memoryLevel: [1, 9] }) };
}

/** One that is not in use. Most files are small, and it takes half a megabyte: much to clear and collect. */
let idle: { readonly key: string; readonly deflater: Deflater } | undefined;

function takeDeflater(key: string, settings: DeflateSettings): Deflater {
  if (idle?.key !== key) return new Deflater(settings);
  const { deflater } = idle;
  idle = undefined;
  deflater.restart();
  return deflater;
}

async function* packGzip(recipe: Recipe, content: Content): AsyncGenerator<Uint8Array> {
  const settings = settingsOf(recipe);
  const key = `${settings.style} ${settings.level} ${settings.memoryLevel}`;
  const deflater = takeDeflater(key, settings);
  let checksum = 0;
  let size = 0;
  if (recipe.frame.length > 0) yield recipe.frame;
  for await (const bytes of content.open()) {
    checksum = crc32(bytes, checksum);
    size += bytes.length;
    const packed = deflater.push(bytes);
    if (packed.length > 0) yield packed;
  }
  const end = deflater.finish();
  idle = { key, deflater };
  yield end;
  const trailer = Buffer.alloc(GZIP_TRAILER_SIZE);
  trailer.writeUInt32LE(checksum, 0);
  trailer.writeUInt32LE(size % 2 ** 32, 4);
  yield trailer;
}

function gzipEncoder(name: 'gnu-gzip' | 'zlib'): Encoder {
  return {
    name,
    cost(recipe) {
      settingsOf(recipe);
      return { memoryBytes: DEFLATER_MEMORY, secondsPerMegabyte: SECONDS_PER_MEGABYTE };
    },
    pack: packGzip,
  };
}

/** GNU gzip's own DEFLATE: what Debian's and most distributions' packages use for documents. */
export const gnuGzipEncoder: Encoder = gzipEncoder('gnu-gzip');

/** zlib's DEFLATE in a gzip container: what Python, Perl and Ruby write. */
export const zlibEncoder: Encoder = gzipEncoder('zlib');
