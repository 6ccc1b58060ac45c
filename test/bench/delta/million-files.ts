import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { join } from 'node:path';
import { finished } from 'node:stream/promises';
import { tarOf } from '../../support/tar-of.ts';

const FOLDERS = 1000;
const FILES = 1000;
/** One file in so many is another in the new version. */
const CHANGED = 100;
const SEED = 0x5eed;
const [LEAST_BYTES, MOST_BYTES] = [300, 900];
const END = Buffer.alloc(1024);

/** A million small files of lines, the same in every run. */
export async function millionFiles(folder: string): Promise<readonly [string, string]> {
  for (const version of [1, 2]) {
    const tar = createWriteStream(join(folder, `v${version}.tar`));
    for (let i = 0; i < FOLDERS; i += 1) {
      const name = `srv/${String(i).padStart(3, '0')}`;
      const files = Array.from({ length: FILES }, (_, j) => ({
        name: `${name}/${String(j).padStart(3, '0')}.conf`,
        content: contentOf(i * FILES + j, version),
      }));
      const part = tarOf([{ name: `${name}/`, type: 'directory' }, ...files]);
      if (!tar.write(part.subarray(0, -END.length))) await once(tar, 'drain');
    }
    tar.end(END);
    await finished(tar);
  }
  return ['1,000,000 files', 'one in 100 changed'];
}

/** Lines of a name and a number; a file that changes has another number in its middle. */
function contentOf(file: number, version: number): Buffer {
  const random = randomNumbers(SEED + file);
  const size = LEAST_BYTES + (random() % (MOST_BYTES - LEAST_BYTES + 1));
  let text = '';
  while (text.length < size) text += `key-${random() % 1000} = ${random().toString(16)}\n`;
  const content = Buffer.from(text.slice(0, size), 'latin1');
  if (version === 2 && random() % CHANGED === 0) {
    content.write(random().toString(16).padStart(8, '0'), size >> 1, 'latin1');
  }
  return content;
}

/** A generator of 32-bit numbers (xorshift of Marsaglia, triple 13, 17, 5). */
function randomNumbers(seed: number): () => number {
  // Seeds in a row must not lead to streams that are alike.
  let state = Math.imul(seed, 0x9e3779b1) | 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}
