import { describe, expect, it } from 'vitest';
import {
  boundsAnnotations,
  readBounds,
  readTarBytes,
  tarBytesAnnotation,
} from '../../../shared/delta/annotations.ts';
import { sha256 } from '../../../shared/digest.ts';
import type { Descriptor, Manifest } from '../../../shared/oci/manifest.ts';
import { TAR_DIFF } from '../../../shared/oci/media-types.ts';

const BOUNDS = {
  ...{ format: 'tar-diff', wireBytes: 700, temporaryBytes: 0, installedBytes: 4096 },
  windowBytes: 2 ** 25,
};

function layer(size: number, annotations: Record<string, string> = {}): Descriptor {
  return { mediaType: TAR_DIFF, digest: sha256(String(size)), size, annotations };
}

function manifest(annotations: Record<string, string>): Manifest {
  const layers = [layer(200), layer(500)];
  return { schemaVersion: 2, config: layer(2), layers, annotations };
}

describe('the bounds of a delta', () => {
  it('are read as they were written', () => {
    expect(readBounds(manifest(boundsAnnotations(BOUNDS)))).toEqual(BOUNDS);
    const { format: _, ...none } = BOUNDS;
    expect(readBounds(manifest(boundsAnnotations(none)))).toEqual(none);
  });

  it('are not there in a delta of another tool', () => {
    expect(readBounds(manifest({}))).toBeUndefined();
    expect(readBounds(manifest({ 'io.github.containers.delta.target': 'x' }))).toBeUndefined();
  });

  it.each([
    ['wire-bytes', '701'],
    ['wire-bytes', undefined],
    ['temporary-bytes', undefined],
    ['installed-bytes', '-1'],
    ['installed-bytes', '1e3'],
    ['window-bytes', '99999999999999999'],
    ['window-bytes', ''],
  ])('are refused when they are malformed or wrong: %s %s', (name, value) => {
    const notes: Record<string, string> = boundsAnnotations(BOUNDS);
    if (value === undefined) delete notes[`dev.snapgate.delta.${name}`];
    else notes[`dev.snapgate.delta.${name}`] = value;
    expect(() => readBounds(manifest(notes))).toThrow(
      expect.objectContaining({ code: 'DELTA_INVALID' }),
    );
  });

  it('hold the length of each rebuilt layer', () => {
    expect(readTarBytes(layer(1, tarBytesAnnotation(10_240)))).toBe(10_240);
    expect(readTarBytes(layer(1))).toBeUndefined();
    expect(() => readTarBytes(layer(1, { 'dev.snapgate.delta.tar-bytes': 'all' }))).toThrow(
      expect.objectContaining({ code: 'DELTA_INVALID' }),
    );
  });
});
