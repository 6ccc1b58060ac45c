import { SnapgateError } from '../errors.ts';
import type { Manifest } from '../oci/manifest.ts';

/** Start of the names of a delta's annotations in the layout that the oci-delta tool reads. */
export const DELTA_ANNOTATION = 'io.github.containers.delta.';

/** Start of the names of what this project adds to them. */
const OWN = 'dev.snapgate.delta.';
/** Where the format of a delta is stated, with what it asks of the machine (see formats.ts). */
export const FORMAT_ANNOTATION = `${OWN}format`;

/**
 * What applying a delta takes, as its manifest states it. The manifest's digest is what a delta's
 * signature covers, so a reader can rely on these before it parses anything, and refuses what
 * exceeds them. Sizes are bytes.
 *
 * | annotation of the manifest            | meaning                                             |
 * | ------------------------------------- | --------------------------------------------------- |
 * | dev.snapgate.delta.format             | format of its layer deltas; absent without any      |
 * | dev.snapgate.delta.wire-bytes         | sum of its layers, the manifest itself not included |
 * | dev.snapgate.delta.temporary-bytes    | most room taken beside its blobs and the result     |
 * | dev.snapgate.delta.installed-bytes    | room that the rebuilt layers take on the disk       |
 * | dev.snapgate.delta.window-bytes       | memory for the largest window of a compressor       |
 * | dev.snapgate.delta.encode-seconds     | estimate of the time that encoders take; may lack   |
 *
 * and of each layer of content `image-layer`: `dev.snapgate.delta.tar-bytes`, the length of the tar
 * stream that it rebuilds.
 */
export type DeltaBounds = {
  /** `tar-diff`, or the name of another format. */
  readonly format?: string;
  readonly wireBytes: number;
  readonly temporaryBytes: number;
  readonly installedBytes: number;
  readonly windowBytes: number;
  /** Seconds for which one common server core packs compressed files again; an estimate. */
  readonly encodeSeconds?: number;
};

/** The bounds as annotations of the manifest. */
export function boundsAnnotations(bounds: DeltaBounds): Record<string, string> {
  return {
    ...(bounds.format === undefined ? {} : { [`${OWN}format`]: bounds.format }),
    [`${OWN}wire-bytes`]: String(bounds.wireBytes),
    [`${OWN}temporary-bytes`]: String(bounds.temporaryBytes),
    [`${OWN}installed-bytes`]: String(bounds.installedBytes),
    [`${OWN}window-bytes`]: String(bounds.windowBytes),
    ...(bounds.encodeSeconds === undefined
      ? {}
      : { [`${OWN}encode-seconds`]: String(Math.ceil(bounds.encodeSeconds)) }),
  };
}

/** The length of a layer's tar stream as annotation of what brings it. */
export function tarBytesAnnotation(bytes: number): Record<string, string> {
  return { [`${OWN}tar-bytes`]: String(bytes) };
}

/**
 * Reads the bounds. Undefined for a delta that states none, as other tools make them. Throws
 * DELTA_INVALID when they are malformed, incomplete, or do not fit the manifest's own sizes.
 */
export function readBounds(manifest: Manifest): DeltaBounds | undefined {
  const notes = manifest.annotations ?? {};
  if (!Object.keys(notes).some((name) => name.startsWith(OWN))) return undefined;
  const bounds: DeltaBounds = {
    ...(notes[`${OWN}format`] === undefined ? {} : { format: notes[`${OWN}format`] as string }),
    wireBytes: bytesOf(notes, 'wire-bytes'),
    temporaryBytes: bytesOf(notes, 'temporary-bytes'),
    installedBytes: bytesOf(notes, 'installed-bytes'),
    windowBytes: bytesOf(notes, 'window-bytes'),
    ...(notes[`${OWN}encode-seconds`] === undefined
      ? {}
      : { encodeSeconds: bytesOf(notes, 'encode-seconds') }),
  };
  const wire = manifest.layers.reduce((sum, layer) => sum + layer.size, 0);
  if (wire === bounds.wireBytes) return bounds;
  throw new SnapgateError(
    'DELTA_INVALID',
    `the delta states ${bounds.wireBytes} bytes on the line, its layers have ${wire}`,
  );
}

/** The stated length of the tar stream that a layer of a delta rebuilds. Throws DELTA_INVALID. */
export function readTarBytes(layer: Manifest['layers'][number]): number | undefined {
  const notes = layer.annotations ?? {};
  return notes[`${OWN}tar-bytes`] === undefined ? undefined : bytesOf(notes, 'tar-bytes');
}

function bytesOf(notes: Readonly<Record<string, string>>, name: string): number {
  const text = notes[`${OWN}${name}`] ?? '';
  const value = Number(text);
  if (/^\d{1,16}$/.test(text) && Number.isSafeInteger(value)) return value;
  throw new SnapgateError('DELTA_INVALID', `annotation ${OWN}${name} is missing or no size`);
}
