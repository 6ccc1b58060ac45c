import { describe, expect, it } from 'vitest';
import {
  isRepositoryPattern,
  longestMatch,
  matchesPattern,
} from '../../../shared/policy/repository-pattern.ts';

describe('repository patterns', () => {
  it.each([
    '*',
    'os/edge',
    'os/*',
    'registry.test/os/edge',
    'registry.test:5000/os/edge',
    'registry.test:5000/os/*',
    'registry.test:5000/*',
    'Registry.test/os',
    '[::1]:5000/os/*',
  ])('takes %s', (text) => {
    expect(isRepositoryPattern(text)).toBe(true);
  });

  it.each([
    '',
    '/',
    '/*',
    '**',
    'os/*/edge',
    'os*',
    'os/',
    'os/ed*',
    'registry.test:5000',
    'a b',
    '../os',
    'os/**',
    'OS/EDGE',
  ])('refuses %s', (text) => {
    expect(isRepositoryPattern(text)).toBe(false);
  });

  it('match whole path components only', () => {
    expect(matchesPattern('a.test/os', 'a.test/os')).toBe(true);
    expect(matchesPattern('a.test/os', 'a.test/os/edge')).toBe(false);
    expect(matchesPattern('a.test/os/*', 'a.test/os/edge/x')).toBe(true);
    expect(matchesPattern('a.test/os/*', 'a.test/os')).toBe(false);
    expect(matchesPattern('a.test/os/*', 'a.test/os2/edge')).toBe(false);
    expect(matchesPattern('a.test/*', 'a.test.evil/os')).toBe(false);
    expect(matchesPattern('*', 'anything/at/all')).toBe(true);
  });

  it('let the longest that matches hold, in any order', () => {
    const rules = ['*', 'a.test/os/edge', 'a.test/*', 'a.test/os/*'].map((repository) => ({
      repository,
    }));
    for (const order of [rules, rules.toReversed()]) {
      expect(longestMatch(order, 'a.test/os/edge')?.repository).toBe('a.test/os/edge');
      expect(longestMatch(order, 'a.test/os/other')?.repository).toBe('a.test/os/*');
      expect(longestMatch(order, 'a.test/x')?.repository).toBe('a.test/*');
      expect(longestMatch(order, 'b.test/x')?.repository).toBe('*');
    }
    expect(longestMatch(rules.slice(1), 'b.test/x')).toBeUndefined();
  });
});
