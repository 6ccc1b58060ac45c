import { LAYER_DELTA, TAR_DIFF } from '../oci/media-types.ts';

/**
 * In what form a delta brings layers, and what it asks of the machine that applies it. `recompress`:
 * compressed files are taken apart, and the machine packs them again with the encoders that come with
 * Snapgate and, where a version is named, with the system's own `zstd` of that version.
 */
export type LayerFormat =
  | { readonly kind: 'tar-diff' }
  | { readonly kind: 'snapgate'; readonly recompress?: { readonly zstd?: string | undefined } };

const CLASS = /^(?:;recompress(?:;zstd=(\d{1,3}\.\d{1,3}\.\d{1,3}))?)?$/;

/**
 * The name of a format where gateway and client agree on one: the media type of the layer deltas,
 * with `;recompress` and `;zstd=VERSION` behind it.
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

function classOf(format: LayerFormat): string {
  if (format.kind === 'tar-diff' || format.recompress === undefined) return '';
  const { zstd } = format.recompress;
  return zstd === undefined ? ';recompress' : `;recompress;zstd=${zstd}`;
}

function ownFormat(text: string): LayerFormat | undefined {
  const found = CLASS.exec(text);
  if (found === null) return undefined;
  if (text === '') return { kind: 'snapgate' };
  return { kind: 'snapgate', recompress: found[1] === undefined ? {} : { zstd: found[1] } };
}
