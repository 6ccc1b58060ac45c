import type { Content, Encoder, ReadStart } from './encoder.ts';
import { type Encoders, encoderFor } from './encoders.ts';
import { formatOf } from './formats.ts';
import { type ByteSource, type PackedPart, readBytes } from './part.ts';
import type { Recipe } from './recipe.ts';

/** What a recipe may take of the machines that are to use it. */
export type RecipeBudget = {
  readonly maxMemoryBytes: number;
  /** Takes the memory of recipes that are passed over because they take more. */
  readonly onDearer?: (memoryBytes: number) => void;
  readonly signal?: AbortSignal;
};

/** From which size of content on a cheap test pays, and how much of it a test may look at. */
const PROBE_FROM = 2 * 1024 ** 2;
const MAX_PROBE = 8 * 1024 ** 2;

/** Whether a recipe gives exactly the bytes of `part`; stops at the first that differs. */
export async function proveRecipe(
  encoders: Encoders,
  recipe: Recipe,
  source: ByteSource,
  part: PackedPart,
  content: Content,
): Promise<boolean> {
  let done = 0;
  for await (const bytes of encoderFor(encoders, recipe).pack(recipe, content)) {
    if (done + bytes.length > part.size || !agrees(source, part, done, bytes)) return false;
    done += bytes.length;
  }
  return done === part.size;
}

function agrees(source: ByteSource, part: PackedPart, offset: number, bytes: Uint8Array): boolean {
  return Buffer.compare(readBytes(source, part.offset + offset, bytes.length), bytes) === 0;
}

/**
 * A recipe that provably gives the bytes of `part`, by the encoders at hand and within the budget,
 * or undefined. Throws what reading the content throws, and the reason of `signal`.
 */
export async function findRecipe(
  encoders: Encoders,
  source: ByteSource,
  part: PackedPart,
  content: Content,
  budget: RecipeBudget,
): Promise<Recipe | undefined> {
  const readStart = startOf(content);
  const mayFit = async (encoder: Encoder, recipe: Recipe) => {
    if (content.size < PROBE_FROM || encoder.probe === undefined) return true;
    const { offset, bytes } = await encoder.probe(recipe, readStart);
    return agrees(source, part, offset, bytes);
  };
  for (const recipe of formatOf(part).propose(source, part, [...encoders.keys()])) {
    budget.signal?.throwIfAborted();
    const encoder = encoders.get(recipe.encoder);
    if (encoder === undefined) continue;
    const { memoryBytes } = encoder.cost(recipe, content.size);
    if (memoryBytes > budget.maxMemoryBytes) {
      budget.onDearer?.(memoryBytes);
      continue;
    }
    if (!(await mayFit(encoder, recipe))) continue;
    if (await proveRecipe(encoders, recipe, source, part, content)) return recipe;
  }
  return undefined;
}

/** Reads the start of content once, however often it is asked for. */
function startOf(content: Content): ReadStart {
  let start: Promise<Uint8Array> | undefined;
  return async (size) => {
    start ??= readFirst(content, Math.min(content.size >> 1, MAX_PROBE));
    return (await start).subarray(0, size);
  };
}

async function readFirst(content: Content, size: number): Promise<Uint8Array> {
  const start = Buffer.allocUnsafe(size);
  let filled = 0;
  for await (const bytes of content.open()) {
    start.set(bytes.subarray(0, size - filled), filled);
    filled = Math.min(size, filled + bytes.length);
    if (filled === size) break;
  }
  return start.subarray(0, filled);
}
