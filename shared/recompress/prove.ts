import { type Encoders, encoderFor, recipeCost } from './encoders.ts';
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
    if (done + bytes.length > part.size) return false;
    const original = readBytes(source, part.offset + done, bytes.length);
    if (Buffer.compare(original, bytes) !== 0) return false;
    done += bytes.length;
  }
  return done === part.size;
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
  for (const recipe of formatOf(part).propose(source, part)) {
    budget.signal?.throwIfAborted();
    if (!encoders.has(recipe.encoder)) continue;
    if (recipeCost(encoders, recipe, content.size).memoryBytes > budget.maxMemoryBytes) continue;
    if (await proveRecipe(encoders, recipe, source, part, content)) return recipe;
  }
  return undefined;
}
