import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));

describe('SECURITY.md', () => {
  it('names tests that are there', () => {
    const text = readFileSync(join(root, 'SECURITY.md'), 'utf8');
    const named = [...text.matchAll(/`(test\/[^`]+)`/g)].map((found) => found[1] ?? '');
    expect(named.length).toBeGreaterThan(20);
    expect(named.filter((path) => !existsSync(join(root, path)))).toEqual([]);
  });
});
