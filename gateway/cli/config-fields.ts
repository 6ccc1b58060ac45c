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
