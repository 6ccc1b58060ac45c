import type { Recipe } from './recipe.ts';

/** What packing by a recipe takes of a machine. */
export type RecipeCost = {
  /** Most bytes of memory, beyond what the process has anyway. */
  readonly memoryBytes: number;
  /** Seconds of one common server core per million bytes of content. */
  readonly secondsPerMegabyte: number;
};

/** Packed bytes that content with a certain start must have, and where in the stream. */
export type PackedStart = { readonly offset: number; readonly bytes: Uint8Array };

/** Content to be packed. */
export type Content = {
  /** Size in bytes. */
  readonly size: number;
  /** Opens it from its start or from an offset; may be called many times. */
  open(from?: number): AsyncIterable<Uint8Array>;
};

/** Reads the first `size` bytes of content. */
export type ReadStart = (size: number) => Promise<Uint8Array>;

/** Packs content by a recipe. The same input gives the same bytes on every machine. */
export type Encoder = {
  /** What recipes call it. */
  readonly name: string;
  /** Checks the settings and says what they take for content of a size. Throws DELTA_INVALID. */
  cost(recipe: Recipe, contentBytes: number): RecipeCost;
  /**
   * The packed bytes. Leaves nothing behind when the consumer stops early. Throws DELTA_INVALID
   * for settings that it does not know, and what reading `content` throws.
   */
  pack(recipe: Recipe, content: Content): AsyncIterable<Uint8Array>;
  /**
   * A cheap test for encoders that give nothing before they have much: what content with a certain
   * start must be packed to. `readStart` gives at most so many bytes of it.
   */
  probe?(recipe: Recipe, readStart: ReadStart): Promise<PackedStart>;
};
