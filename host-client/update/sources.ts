import type { Digest } from '../../shared/digest.ts';
import type { Config } from '../config.ts';
import type { HeldImage } from '../storage/storage.ts';

/**
 * The images that a delta may start from, most wanted first: what the machine boots, then others of
 * its repository, then the newest. Names are hints only: what counts is what an image holds.
 */
export function sortSources(
  held: readonly HeldImage[],
  { name }: Pick<Config, 'name'>,
  current: Digest | undefined,
): HeldImage[] {
  const rank = (image: HeldImage) => {
    if (image.config === current) return 0;
    return image.names.some((one) => one.startsWith(`${name}:`)) ? 1 : 2;
  };
  const created = (image: HeldImage) => image.created ?? '';
  return [...held].sort(
    (a, b) => rank(a) - rank(b) || (created(a) < created(b) ? 1 : created(a) > created(b) ? -1 : 0),
  );
}
