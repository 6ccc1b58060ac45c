import type { Digest } from '../../digest.ts';
import { SnapgateError } from '../../errors.ts';
import type { Piece, SourceFile, SourceTree } from '../piece.ts';
import type { Workspace } from '../workspace.ts';
import { CommandReader } from './commands.ts';
import {
  DEFAULT_LAYER_DELTA_LIMITS,
  type LayerDeltaHeader,
  type LayerDeltaLimits,
} from './header.ts';
import { LookAhead } from './look-ahead.ts';
import { type Checkpoint, SegmentReader } from './segment-reader.ts';
import { SourceEntries } from './source-entries.ts';

/**
 * Packs and unpacks the contents of compressed files (FORMAT.md section 8). May be asked for many at
 * once, and sees to it that no more run than there is memory for.
 */
export type Recompressor = {
  unpack(method: number, packed: SourceFile, size: number): AsyncIterable<Uint8Array>;
  encode(recipe: Uint8Array, content: SourceFile, size: number): AsyncIterable<Uint8Array>;
};

/** What a delta did; parts by their numbers. */
export type DeltaStep =
  | { readonly kind: 'headers' | 'content'; readonly path: string }
  | { readonly kind: 'keep' | 'other' }
  | { readonly kind: 'part'; readonly part: number; readonly from?: number }
  | { readonly kind: 'free'; readonly part: number };

export type ApplyOptions = {
  readonly source: SourceTree;
  readonly workspace: Workspace;
  readonly limits?: LayerDeltaLimits;
  /** The diff_id that the layer must have: a delta for another one is refused at once. */
  readonly expected?: Digest;
  readonly recompressor?: Recompressor;
  /** Called with each checkpoint once all output before it was taken. */
  readonly onCheckpoint?: (checkpoint: Checkpoint, header: LayerDeltaHeader) => void;
  /** Watches: called after each step with how many packed bytes were used up so far. */
  readonly observe?: (step: DeltaStep, used: { all: number; literals: number }) => void;
  /** Source files are stand-ins, whose sizes say nothing: what comes out has the right sizes only. */
  readonly isDry?: boolean;
  /** Goes on at a checkpoint: the delta given starts at its `deltaOffset`. */
  readonly resume?: { readonly header: LayerDeltaHeader; readonly checkpoint: Checkpoint };
};

/**
 * Applies a layer delta: yields the rebuilt tar stream, or what of it follows a checkpoint. Pieces
 * share one buffer, which the next piece overwrites. The caller compares the stream's sha256 with
 * the diff_id; nothing may be used before that. The source tree stays open.
 * Throws DELTA_INVALID, DELTA_SOURCE_MISMATCH, LIMIT_EXCEEDED, and what reading throws.
 */
export async function* applyLayerDelta(
  delta: AsyncIterable<Uint8Array>,
  options: ApplyOptions,
): AsyncGenerator<Piece, void, void> {
  const limits = options.limits ?? DEFAULT_LAYER_DELTA_LIMITS;
  const { resume } = options;
  const segments = new SegmentReader(
    delta,
    limits,
    resume && { header: resume.header, position: resume.checkpoint.deltaOffset },
  );
  let commands: CommandReader | undefined;
  try {
    const header = await segments.header();
    if (options.expected !== undefined && options.expected !== header.outputDigest) {
      throw new SnapgateError('DELTA_INVALID', 'the delta is for another layer', {
        where: header.outputDigest,
        hint: `Layer ${options.expected} was expected.`,
      });
    }
    const layers: SourceFile[] = [];
    for (const layer of header.sourceLayers) layers.push(await openHeaders(options.source, layer));
    const entries = new SourceEntries(layers, limits.maxSourceEntries);
    const ahead = new LookAhead(options.source, new SourceEntries(layers, limits.maxSourceEntries));
    commands = new CommandReader(header, segments, entries, options, ahead);
    yield* commands.run();
  } finally {
    await commands?.close();
    await segments.close();
  }
}

async function openHeaders(source: SourceTree, layer: Digest): Promise<SourceFile> {
  const found = await source.openHeaders?.(layer);
  if (found !== undefined) return found;
  throw new SnapgateError('DELTA_SOURCE_MISMATCH', 'the delta needs the headers of a layer', {
    where: layer,
    hint: 'Give the source image itself as well as its tree.',
  });
}
