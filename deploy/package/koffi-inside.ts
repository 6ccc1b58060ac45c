import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { zstdDecompressSync } from 'node:zlib';
// The bundler puts koffi's native module here, compressed.
import { packed } from 'koffi-native';

/**
 * Stands for `host-client/system/koffi.ts` in the one-file client: a native module can only be loaded
 * from a file, so it is unpacked when it is needed, into a folder that only this user can write to.
 */
export function loadKoffi(): typeof import('koffi') {
  loaded ??= load();
  return loaded;
}

let loaded: typeof import('koffi') | undefined;

function load(): typeof import('koffi') {
  const native = zstdDecompressSync(packed);
  const digest = createHash('sha256').update(native).digest('hex');
  // Programs cannot be loaded from /run, which is mounted without that right.
  const parent =
    process.getuid?.() === 0
      ? '/var/lib/snaphost/native'
      : join(tmpdir(), `snaphost-${process.getuid?.()}`);
  const folder = join(parent, digest.slice(0, 16));
  const place = join(folder, 'koffi', `linux_${process.arch}`);
  const file = join(place, 'koffi.node');
  mkdirSync(place, { recursive: true, mode: 0o700 });
  if (!isIntact(file, digest)) {
    writeFileSync(`${file}.${process.pid}`, native, { mode: 0o600 });
    renameSync(`${file}.${process.pid}`, file);
  }
  // koffi looks for its native module below this folder.
  Object.assign(process, { resourcesPath: folder });
  return require('koffi');
}

function isIntact(file: string, digest: string): boolean {
  try {
    return createHash('sha256').update(readFileSync(file)).digest('hex') === digest;
  } catch {
    return false;
  }
}
