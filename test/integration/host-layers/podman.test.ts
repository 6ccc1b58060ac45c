import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { BuiltLayer } from '../../../host-client/storage/layer-builder.ts';
import type { SnapgateError } from '../../../shared/errors.ts';
import { useLayerStaging } from '../../support/layer-staging.ts';
import { type RawEntry, rawTar } from '../../support/raw-tar.ts';

describe.each([1, 2] as const)('layers built by btrfs receive, version %i', (version) => {
  const layers = useLayerStaging(version);

  it('are what Podman unpacks, for everything that a layer may hold', async () => {
    const capability = Buffer.from('0100000200200000000000000000000000000000', 'hex');
    const tars = [
      rawTar([
        { name: './', type: '5', mode: 0o755, mtime: 5 },
        { name: 'd/', type: '5', mtime: '-5.25', uid: 7, gid: 8 },
        { name: 'a', content: 'one', mode: 0o4755, uid: 1000, gid: 1001 },
        { name: 'old', mtime: '-5.25' },
        { name: 's', type: '2', link: 'x', mtime: '-5.25' },
        { name: 'g', content: 'x', mtime: '12.123456789', xattrs: { 'user.a': 'b' } },
        { name: 'cap', content: 'y', uid: 3, xattrs: { 'security.capability': capability } },
        {
          name: 'label',
          xattrs: { 'security.selinux': 'system_u:object_r:etc_t:s0\0', foo: 'x' },
        },
        { name: 'd/acl', type: '5', xattrs: { 'trusted.x': '\x00\xff', 'user.empty': '' } },
        { name: 'hs', type: '1', link: 's', uid: 5 },
        { name: 'ha', type: '1', link: './a', uid: 5, mode: 0o2700, mtime: 77 },
        { name: 'implied/dirs/x', mtime: 99 },
        { name: 'dev/c', type: '3', major: 1, minor: 300, mode: 0o666 },
        { name: 'dev/b', type: '4', major: 259, minor: 70_000, mode: 0o660, gid: 6 },
        { name: 'p', type: '6', mode: 0o600 },
        { name: 'usr/lib/', type: '5', mode: 0o2775, gid: 50 },
        { name: 'lib', type: '2', link: 'usr/lib' },
        { name: 'abs', type: '2', link: '/usr/./lib/' },
        { name: 'usr/lib/deep/er/x', content: 'z'.repeat(100_000) },
        { name: 'n\xe4\xff \n"', content: 'latin1 name' },
        { name: `${'long/'.repeat(40)}name`, content: 'deep' },
        { name: 'setgid-file', content: '1', mode: 0o2755, gid: 9 },
      ]),
      rawTar([
        { name: 'lib/y', content: 'by way of a link' },
        { name: 'abs/new/z', content: 'by way of an absolute link' },
        { name: 'a', type: '5' },
        { name: 'usr/lib/deep/.wh..wh..opq' },
        { name: 'usr/lib/deep/z', content: 'z' },
        { name: '.wh.g' },
        { name: '.wh.not-there' },
        { name: '.wh..wh.aufs' },
        { name: 'd', content: 'a file now' },
        { name: 'ha', content: 'replaced, its links are not' },
        { name: 'implied/.wh.dirs' },
        { name: 's', type: '5' },
        { name: 'hs', type: '2', link: 'elsewhere' },
        { name: 'lib/.wh..wh..opq' },
      ]),
      rawTar([
        { name: '.wh.usr' },
        { name: 'usr/bin/x', content: '1' },
        { name: 'lib', type: '5' },
      ]),
      rawTar([]),
      rawTar([{ name: 'z/1', content: 'first' }, { name: 'z/.wh..wh..opq' }, { name: 'z/2' }]),
      rawTar([{ name: 'z/3' }, { name: '.wh..wh..opq' }]),
    ];
    const built: BuiltLayer[] = [];
    for (const tar of tars) built.push(await layers.build(tar, built.at(-1)));
    await layers.compare(tars, built);
  });

  /** Builds as much of a random layer as is sound. */
  async function buildSound(layer: readonly RawEntry[], parent: BuiltLayer | undefined) {
    for (let taken = layer.length; ; taken -= 1) {
      const tar = rawTar(layer.slice(0, taken));
      try {
        return { tar, made: await layers.build(tar, parent), taken };
      } catch (error) {
        expect((error as SnapgateError).code).toBe('TAR_INVALID');
      }
    }
  }

  it('are what Podman unpacks, for random layers on one another', async () => {
    let entries = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(randomLayer, { minLength: 6, maxLength: 6 }), async (stack) => {
        const tars: Buffer[] = [];
        const built: BuiltLayer[] = [];
        for (const layer of stack) {
          const { tar, made, taken } = await buildSound(layer, built.at(-1));
          tars.push(tar);
          built.push(made);
          entries += taken;
        }
        await layers.compare(tars, built);
      }),
      { numRuns: Number(process.env.SNAPGATE_LAYER_RUNS ?? 6) },
    );
    expect(entries).toBeGreaterThan(30);
  }, 600_000);
});

/** Names that meet often, so that things are replaced, hidden and merged. */
const directoryName = fc.constantFrom('d0', 'd1', 'd2', 'ln');
const fileName = fc.constantFrom('f0', 'f1', 'f2', 'd0', 'ln');
const path = fc
  .tuple(fc.array(directoryName, { maxLength: 2 }), fileName)
  .map(([parents, name]) => [...parents, name].join('/'));
const metadata = fc.record({
  mode: fc.constantFrom(0o644, 0o755, 0o4711, 0o2775, 0o1777, 0),
  uid: fc.nat(3),
  gid: fc.nat(3),
  mtime: fc.nat(1_600_000_000),
});
const kind = fc.oneof(
  { weight: 4, arbitrary: fc.record({ content: fc.string({ maxLength: 20 }) }) },
  { weight: 4, arbitrary: fc.constant({ type: '5' }) },
  {
    weight: 2,
    arbitrary: fc.record({
      type: fc.constant('2'),
      link: fc.constantFrom('d0', '../d1', '/d2', 'f0'),
    }),
  },
  { weight: 2, arbitrary: fc.record({ type: fc.constant('1'), link: path }) },
  { weight: 1, arbitrary: fc.constant({ type: '6' }) },
);
const named = fc
  .tuple(path, metadata, kind)
  .map(([name, meta, what]): RawEntry => ({ name, ...meta, ...what }));
const whiteout = fc.tuple(path, fc.boolean()).map(
  ([name, opaque]): RawEntry => ({
    name: opaque ? name.replace(/[^/]*$/, '.wh..wh..opq') : name.replace(/[^/]*$/, '.wh.$&'),
  }),
);
const entry = fc.oneof({ weight: 5, arbitrary: named }, { weight: 1, arbitrary: whiteout });
const randomLayer = fc.uniqueArray(entry, { maxLength: 10, selector: ({ name }) => name });
