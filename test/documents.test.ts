import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));

describe('README.md', () => {
  it('has no figure that was not measured', () => {
    const [text, results] = ['README.md', 'test/bench/RESULTS.md'].map((name) =>
      readFileSync(join(root, name), 'utf8'),
    );
    const named = [...(text ?? '').matchAll(/(\d[\d.]*) (MB|bytes)\b/g)];
    expect(named.length).toBeGreaterThan(4);
    const unknown = named.filter(([, number, unit]) => {
      return !results?.includes(`${number} ${unit === 'bytes' ? 'B\n' : 'MB'}`);
    });
    expect(unknown.map(([figure]) => figure)).toEqual([]);
  });
});

describe('SECURITY.md', () => {
  it('names tests that are there', () => {
    const text = readFileSync(join(root, 'SECURITY.md'), 'utf8');
    const named = [...text.matchAll(/`(test\/[^`]+)`/g)].map((found) => found[1] ?? '');
    expect(named.length).toBeGreaterThan(20);
    expect(named.filter((path) => !existsSync(join(root, path)))).toEqual([]);
  });
});
