import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  formatDistributionPath,
  parseDistributionPath,
} from '../../../gateway/routes/distribution-path.ts';
import { isRepositoryName } from '../../../shared/oci/reference.ts';

const DIGEST = `sha256:${'a'.repeat(64)}`;
const codeOf = (path: string) => {
  try {
    return parseDistributionPath(path)?.kind;
  } catch (thrown) {
    return (thrown as { code: string }).code;
  }
};

describe('paths of the distribution API', () => {
  it.each([
    ['/v2/', { kind: 'base' }],
    ['/v2', { kind: 'base' }],
    ['/v2/_catalog', { kind: 'catalog' }],
    ['/v2/a/b/tags/list', { kind: 'tags', name: 'a/b' }],
    ['/v2/a/manifests/v1', { kind: 'manifest', name: 'a', reference: 'v1' }],
    ['/v2/a/manifests/sha256%3Aaa', { kind: 'manifest', name: 'a', reference: 'sha256:aa' }],
    [`/v2/manifests/manifests/x`, { kind: 'manifest', name: 'manifests', reference: 'x' }],
    [`/v2/tags/list/tags/list`, { kind: 'tags', name: 'tags/list' }],
    [`/v2/a/blobs/${DIGEST}`, { kind: 'blob', name: 'a', digest: DIGEST }],
    ['/v2/a/blobs/uploads/', { kind: 'uploads', name: 'a' }],
    ['/v2/a/blobs/uploads', { kind: 'uploads', name: 'a' }],
    ['/v2/a/blobs/uploads/u/1', { kind: 'upload', name: 'a', session: 'u/1' }],
    [`/v2/a/referrers/${DIGEST}`, { kind: 'referrers', name: 'a', digest: DIGEST }],
  ])('%s', (path, parsed) => {
    expect(parseDistributionPath(path)).toEqual(parsed);
  });

  it.each([
    ['/v1/a/tags/list', undefined],
    ['/v2/a', undefined],
    ['/v2/a/manifests/', undefined],
    ['/v2/A/tags/list', 'NAME_INVALID'],
    ['/v2/../tags/list', 'NAME_INVALID'],
    ['/v2/a/%2e%2e/tags/list', 'NAME_INVALID'],
    ['/v2/a/manifests/.hidden', 'MANIFEST_UNKNOWN'],
    ['/v2/a/manifests/%2e%2e', 'MANIFEST_UNKNOWN'],
    ['/v2/a/blobs/md5', 'DIGEST_INVALID'],
    ['/v2/a/blobs/uploads/../../b', 'BLOB_UPLOAD_UNKNOWN'],
    ['/v2/a/blobs/uploads/x/%2e%2e/y', 'BLOB_UPLOAD_UNKNOWN'],
    ['/v2/a/blobs/uploads/%2e%2e%2fy', 'BLOB_UPLOAD_UNKNOWN'],
    ['/v2/a/blobs/uploads/a b', 'BLOB_UPLOAD_UNKNOWN'],
  ])('%s is refused', (path, code) => {
    expect(codeOf(path)).toBe(code);
  });

  it('stay below the repository, whatever comes', () => {
    const word = fc.oneof(
      ...[fc.constantFrom('..', '.', '%2e%2e', '%2f', 'a', 'tags', 'list', '%', '\\', '~', '')],
      fc.string({ maxLength: 8 }),
    );
    const tail = fc.constantFrom('tags/list', 'manifests/', 'blobs/', 'blobs/uploads/', '');
    const paths = fc.tuple(
      fc.array(word, { maxLength: 5 }),
      tail,
      fc.array(word, { maxLength: 5 }),
    );
    fc.assert(
      fc.property(paths, ([before, middle, after]) => {
        const text = `/v2/${before.join('/')}/${middle}${after.join('/')}`;
        const kind = codeOf(text);
        if (kind === undefined || kind === kind.toUpperCase()) return;
        const parsed = parseDistributionPath(text);
        if (parsed === undefined || !('name' in parsed)) return;
        const path = formatDistributionPath(parsed);
        const { pathname, search, hash } = new URL(path, 'http://registry.example');
        expect(isRepositoryName(parsed.name)).toBe(true);
        // A lone % is no escape, and decodeURIComponent would throw.
        const decoded = pathname.replace(/%([0-9a-f]{2})/gi, (_, hex) =>
          String.fromCharCode(Number.parseInt(hex, 16)),
        );
        expect(decoded.startsWith(`/v2/${parsed.name}/`)).toBe(true);
        expect(decoded.split('/')).not.toContain('..');
        expect(search + hash).toBe('');
      }),
      { numRuns: 2000 },
    );
  });
});
