import { formatBytes } from '../../shared/cli/format.ts';
import { SnapgateError } from '../../shared/errors.ts';
import { layerCompression } from '../../shared/oci/media-types.ts';
import { freeSpaceAt } from '../system/free-space.ts';
import type { Way } from './ways.ts';

/** Bytes that something will take at a path. */
export type Need = { readonly path: string; readonly bytes: number; readonly what: string };

/** Room left on each file system for what else the machine writes, and for metadata. */
const SPARE_BYTES = 32 * 1024 * 1024;
/** A packed layer says nothing of its size; system images rarely unpack to less than this. */
const LEAST_RATIO = 2;

/** Where an update writes. */
export type RoomPlaces = {
  readonly downloads: string;
  readonly work: string;
  readonly graphRoot: string;
};

/** What a way takes where, besides what is downloaded already. */
export function needsOf(way: Way, missingBytes: number, places: RoomPlaces): Need[] {
  const { bounds } = way;
  return [
    { path: places.downloads, bytes: missingBytes, what: 'the download' },
    { path: places.work, bytes: bounds?.temporaryBytes ?? 0, what: 'temporary files' },
    { path: places.graphRoot, bytes: installedBytes(way), what: 'the image' },
  ];
}

/** A delta says what its layers take; of layers that come whole the least is assumed. */
function installedBytes(way: Way): number {
  let bytes = way.bounds?.installedBytes ?? 0;
  for (const layer of way.layers) {
    if (layer.kind !== 'full') continue;
    if (way.bounds !== undefined && layer.fetch.digest !== layer.blob.digest) continue;
    const isPacked = layerCompression(layer.blob.mediaType) !== 'none';
    bytes += layer.blob.size * (isPacked ? LEAST_RATIO : 1);
  }
  return bytes;
}

/** Compares needs with what is free on each file system. Throws NO_SPACE. */
export async function checkRoom(
  needs: readonly Need[],
  freeAt: typeof freeSpaceAt = freeSpaceAt,
): Promise<void> {
  const groups = new Map<string, { mountPoint: string; free: number; needs: Need[] }>();
  for (const need of needs) {
    if (need.bytes === 0) continue;
    const { fileSystem, mountPoint, free } = await freeAt(need.path);
    const group = groups.get(fileSystem) ?? { mountPoint, free, needs: [] };
    group.needs.push(need);
    groups.set(fileSystem, group);
  }
  for (const { mountPoint, free, needs: all } of groups.values()) {
    const needed = all.reduce((sum, need) => sum + need.bytes, SPARE_BYTES);
    if (needed <= free) continue;
    const parts = all.map(({ bytes, what }) => `${formatBytes(bytes)} for ${what}`).join(', ');
    throw new SnapgateError(
      'NO_SPACE',
      `${formatBytes(needed)} are needed (${parts}), ${formatBytes(free)} are free`,
      { where: mountPoint, hint: 'Run snaphost gc, or free some space, and run it again.' },
    );
  }
}
