import { SnapgateError } from '../../errors.ts';
import type { SourceFile } from '../piece.ts';
import { type ByteReader, invalidDelta } from './bytes.ts';
import { readPath } from './content-settings.ts';
import type { StreamName } from './header.ts';
import type { Operations } from './operations.ts';
import type { Parts } from './parts.ts';
import type { Recompressor } from './reader.ts';
import { sourceMismatch } from './source-reader.ts';

/** From what UNPACK unpacks (FORMAT.md section 7). */
export const UNPACK_FROM = { FILE: 0, ENTRY_FILE: 1, PART: 2 } as const;
const MAX_RECIPE_BYTES = 65_536;
/** Of all recipes from one checkpoint to the next. */
const MAX_RECIPES_BYTES = 1024 * 1024;

export type PartsContext = {
  readonly streams: Readonly<Record<StreamName, ByteReader>>;
  readonly parts: Parts;
  readonly operations: Operations;
  readonly recompressor: Recompressor | undefined;
  readonly openFile: (path: string) => SourceFile;
  readonly openEntry: (distance: number) => SourceFile;
};

/** Reads and carries out the commands that make parts. */
export class PartsReader {
  readonly #context: PartsContext;
  #recipes: Uint8Array[] = [];
  #recipesBytes = 0;

  constructor(context: PartsContext) {
    this.#context = context;
  }

  /** At a checkpoint. */
  restart(): void {
    this.#recipes = [];
    this.#recipesBytes = 0;
  }

  async build(): Promise<void> {
    const { streams, parts, operations } = this.#context;
    const size = streams.commands.number();
    await parts.build(size, async (write) => {
      for (const step of operations.run(size)) {
        if (step instanceof Promise) await step;
        else write(step.bytes);
      }
      for (const { bytes } of operations.rest()) write(bytes);
    });
  }

  async unpack(): Promise<void> {
    const { streams, parts } = this.#context;
    const { commands } = streams;
    const { file: packed, age } = await this.#openPacked();
    const offset = commands.number();
    const length = commands.number();
    const method = commands.byte();
    const size = commands.number();
    if (length === 0) throw invalidDelta('nothing is unpacked');
    if (offset + length > packed.size) {
      throw sourceMismatch('a source is shorter than the delta needs', packed.path);
    }
    const stretch = { ...packed, size: length, read: reader(packed, offset, length) };
    const recompressor = this.#recompressor();
    const wrong = () => sourceMismatch('a source unpacks to another size', packed.path);
    const chunks = recompressor.unpack(method, stretch, size);
    parts.create(size, (write) => drain(chunks, write), wrong, age);
  }

  /** Returns the number of the part that is packed. */
  async encode(): Promise<number> {
    const { streams, parts } = this.#context;
    const age = streams.commands.number();
    const from = parts.numberOf(age);
    const content = await parts.open(age);
    const recipe = this.#readRecipe();
    const size = streams.commands.number();
    const wrong = () =>
      new SnapgateError('ENCODER_MISMATCH', 'an encoder makes other bytes than it must', {
        hint: 'A delta without recompression, or the full image, can be fetched.',
      });
    const chunks = this.#recompressor().encode(recipe, content, size);
    parts.create(size, (write) => drain(chunks, write), wrong, age);
    return from;
  }

  #recompressor(): Recompressor {
    const { recompressor } = this.#context;
    if (recompressor !== undefined) return recompressor;
    throw new SnapgateError('UNSUPPORTED', 'the delta needs encoders that are not here', {
      hint: 'A delta without recompression, or the full image, can be fetched.',
    });
  }

  async #openPacked(): Promise<{ file: SourceFile; age?: number }> {
    const { streams, parts, openFile, openEntry } = this.#context;
    const { commands, text } = streams;
    const from = commands.byte();
    if (from === UNPACK_FROM.FILE) return { file: openFile(readPath(commands, text)) };
    if (from === UNPACK_FROM.ENTRY_FILE) return { file: openEntry(commands.signed()) };
    if (from !== UNPACK_FROM.PART) {
      throw invalidDelta('something is unpacked from what is not known');
    }
    const age = commands.number();
    return { file: await parts.open(age), age };
  }

  #readRecipe(): Uint8Array {
    const { commands, text } = this.#context.streams;
    const number = commands.number();
    if (number > 0) {
      const known = this.#recipes[number - 1];
      if (known === undefined) throw invalidDelta('the delta names a recipe that it did not give');
      return known;
    }
    const length = commands.number();
    this.#recipesBytes += length;
    if (length === 0 || length > MAX_RECIPE_BYTES || this.#recipesBytes > MAX_RECIPES_BYTES) {
      throw invalidDelta('a recipe is empty or too long, or there are too many');
    }
    const recipe = text.bytes(length).slice();
    this.#recipes.push(recipe);
    return recipe;
  }
}

function reader(file: SourceFile, start: number, length: number): SourceFile['read'] {
  return (target, offset) => {
    const most = Math.max(0, Math.min(target.length, length - offset));
    return file.read(target.subarray(0, most), start + offset);
  };
}

async function drain(
  chunks: AsyncIterable<Uint8Array>,
  write: (bytes: Uint8Array) => void,
): Promise<void> {
  for await (const chunk of chunks) write(chunk);
}
