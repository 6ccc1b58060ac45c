import { ENCODER_SET, LZMA_VERSION } from '../../shared/delta/machine-class.ts';
import type { Digest } from '../../shared/digest.ts';
import type { ContentIndex } from './content-index.ts';
import type { OpenedPart, ProvedRecipe } from './open-packed.ts';

/** A recipe that was proved for the compressed stream in a place of a file, in bytes. */
export type KnownRecipe = ProvedRecipe & { readonly offset: number; readonly size: number };

/** Proving a stream whose encoder takes fewer seconds than this is cheaper than keeping its recipe. */
const MIN_SECONDS = 0.005;
/** Most streams of a layer whose recipes are kept. */
const MAX_KEPT = 20_000;
/** What recipes hold for: the encoders by their version; that of zstd is in an encoder's name. */
const VERSION = `recipes-1-${ENCODER_SET}-${LZMA_VERSION}`;

/**
 * The recipes of the compressed files of a layer, by the sha256 of a file. Proving them is most of what
 * making a delta takes where there are many, and they are the same for all deltas that the layer is the
 * target of. Kept in the content index where there is one.
 */
export class KeptRecipes {
  readonly #index: ContentIndex | undefined;
  readonly #diffId: Digest;
  readonly #recipes: Map<string, KnownRecipe[]>;
  #left = MAX_KEPT;
  #hasNew = false;

  private constructor(
    index: ContentIndex | undefined,
    diffId: Digest,
    recipes: Map<string, KnownRecipe[]>,
  ) {
    this.#index = index;
    this.#diffId = diffId;
    this.#recipes = recipes;
    for (const known of recipes.values()) this.#left -= known.length;
  }

  static async of(index: ContentIndex | undefined, diffId: Digest): Promise<KeptRecipes> {
    const kept = await index?.getNotes(diffId, VERSION);
    return new KeptRecipes(index, diffId, new Map(kept as [string, KnownRecipe[]][] | undefined));
  }

  get(sha256: string): readonly KnownRecipe[] {
    return this.#recipes.get(sha256) ?? [];
  }

  /** Takes what was proved of a file. */
  add(sha256: string, parts: readonly OpenedPart[]): void {
    const known = this.#recipes.get(sha256) ?? [];
    const added = parts.flatMap((part) => {
      if (part.kind !== 'packed' || part.recipe === undefined) return [];
      const { offset, size, recipe } = part;
      const isKnown = known.some((one) => one.offset === offset && one.text === recipe.text);
      return isKnown || recipe.seconds < MIN_SECONDS ? [] : [{ offset, size, ...recipe }];
    });
    if (added.length === 0 || added.length > this.#left) return;
    this.#left -= added.length;
    this.#hasNew = true;
    this.#recipes.set(sha256, [...known, ...added]);
  }

  /** Keeps what was added. */
  async save(): Promise<void> {
    if (!this.#hasNew) return;
    this.#hasNew = false;
    await this.#index?.putNotes(this.#diffId, VERSION, [...this.#recipes]);
  }
}
