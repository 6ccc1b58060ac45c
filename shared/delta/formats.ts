import { LAYER_DELTA, TAR_DIFF } from '../oci/media-types.ts';
import {
  commonRecompression,
  coversRecompression,
  formatRecompression,
  parseRecompression,
  type Recompression,
} from './machine-class.ts';

/**
 * In what form a delta brings layers, and what it asks of the machine that applies it. `recompress`:
 * compressed files are taken apart, and the machine packs them again with encoders of that class.
 */
export type LayerFormat =
  | { readonly kind: 'tar-diff' }
  | { readonly kind: 'snapgate'; readonly recompress?: Recompression };

/**
 * The name of a format where gateway and client agree on one: the media type of the layer deltas,
 * with the class of the machine behind it where compressed files are packed again.
 */
export function formatName(format: LayerFormat): string {
  return format.kind === 'tar-diff' ? TAR_DIFF : `${LAYER_DELTA}${classOf(format)}`;
}

/** Undefined for a name that is not known here. */
export function parseFormatName(name: string): LayerFormat | undefined {
  if (name === TAR_DIFF) return { kind: 'tar-diff' };
  return name.startsWith(LAYER_DELTA) ? ownFormat(name.slice(LAYER_DELTA.length)) : undefined;
}

/** A format as a delta's own annotation states it: `tar-diff`, or `snapgate` with its class. */
export function formatNote(format: LayerFormat): string {
  return `${format.kind}${classOf(format)}`;
}

/** The name that goes with an annotation; undefined for one that is not known here. */
export function nameOfNote(note: string): string | undefined {
  if (note === 'tar-diff') return TAR_DIFF;
  const format = note.startsWith('snapgate') ? ownFormat(note.slice('snapgate'.length)) : undefined;
  return format && formatName(format);
}

/** Whether a machine that reads one format can read a delta that was made for another. */
export function covers(has: LayerFormat, needs: LayerFormat): boolean {
  if (has.kind === 'tar-diff' || needs.kind === 'tar-diff') return has.kind === needs.kind;
  if (needs.recompress === undefined) return true;
  return has.recompress !== undefined && coversRecompression(has.recompress, needs.recompress);
}

/**
 * The format in which a gateway with the encoders of `maker` makes deltas for a machine: undefined
 * when it can make none of that kind.
 */
export function madeFormat(machine: LayerFormat, maker: Recompression): LayerFormat | undefined {
  if (machine.kind === 'tar-diff' || machine.recompress === undefined) return machine;
  const recompress = commonRecompression(machine.recompress, maker);
  return recompress && { kind: 'snapgate', recompress };
}

function classOf(format: LayerFormat): string {
  if (format.kind === 'tar-diff' || format.recompress === undefined) return '';
  return `;${formatRecompression(format.recompress)}`;
}

function ownFormat(text: string): LayerFormat | undefined {
  if (text === '') return { kind: 'snapgate' };
  const recompress = text.startsWith(';') ? parseRecompression(text.slice(1)) : undefined;
  return recompress && { kind: 'snapgate', recompress };
}
