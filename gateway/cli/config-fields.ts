import * as v from 'valibot';
import { isRepositoryPattern } from '../../shared/policy/repository-pattern.ts';

/** A whole number from `least` to `most`. */
export const count = (least: number, most: number) =>
  v.pipe(v.number(), v.integer(), v.minValue(least), v.maxValue(most));

export const filePath = v.pipe(v.string(), v.minLength(1));

export const pattern = v.pipe(
  v.string(),
  v.check(isRepositoryPattern, 'must be a repository, a prefix of it followed by /*, or *'),
);

/** Scheme, host and port, and nothing else. */
export const origin = v.pipe(
  v.string(),
  v.check((text) => isOrigin(text), 'must be http://HOST[:PORT] or https://HOST[:PORT]'),
  v.transform((text) => new URL(text)),
);

function isOrigin(text: string): boolean {
  const url = URL.parse(text);
  if (url === null || !/^https?:$/.test(url.protocol)) return false;
  const rest = `${url.username}${url.password}${url.search}${url.hash}`;
  return rest === '' && url.pathname === '/';
}
