import type { Encoder } from './encoder.ts';
import { type Encoders, encoderFor } from './encoders.ts';
import { formatOf } from './formats.ts';
import { type ByteSource, type PackedPart, readBytes } from './part.ts';
import type { Recipe } from './recipe.ts';

/** The content of a packed part. */
export type Content = {
  readonly size: number;
  /** Opens it from its start; may be called many times. */
  open(): AsyncIterable<Uint8Array>;
};

/** What a recipe may take of the machines that are to use it. */
export type RecipeBudget = { readonly maxMemoryBytes: number; readonly signal?: AbortSignal };

/** How much content a cheap test looks at, and from which size on it pays. */
const PROBE_SIZE = 1024 ** 2;
const PROBE_FROM = 2 * PROBE_SIZE;

/** Whether a recipe gives exactly the bytes of `part`; stops at the first that differs. */
export async function proveRecipe(
  encoders: Encoders,
  recipe: Recipe,
  source: ByteSource,
  part: PackedPart,
  content: Content,
): Promise<boolean> {
  let done = 0;
  for await (const bytes of encoderFor(encoders, recipe).pack(recipe, content.open())) {
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
  const start = content.size < PROBE_FROM ? undefined : await readStart(content);
  const mayFit = async (encoder: Encoder, recipe: Recipe) => {
    if (start === undefined || encoder.probe === undefined) return true;
    const { offset, bytes } = await encoder.probe(recipe, start);
    return agrees(source, part, offset, bytes);
  };
  for (const recipe of formatOf(part).propose(source, part, [...encoders.keys()])) {
    budget.signal?.throwIfAborted();
    const encoder = encoders.get(recipe.encoder);
    if (encoder === undefined) continue;
    if (encoder.cost(recipe, content.size).memoryBytes > budget.maxMemoryBytes) continue;
    if (!(await mayFit(encoder, recipe))) continue;
    if (await proveRecipe(encoders, recipe, source, part, content)) return recipe;
  }
  return undefined;
}

async function readStart(content: Content): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const bytes of content.open()) {
    chunks.push(Uint8Array.from(bytes));
    size += bytes.length;
    if (size >= PROBE_SIZE) break;
  }
  return Buffer.concat(chunks).subarray(0, PROBE_SIZE);
}
