import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { describe, expect, it } from 'vitest';

type Import = { readonly file: string; readonly target: string };

const files = ['gateway', 'host-client', 'shared'].flatMap((part) =>
  readdirSync(part, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => join(part, name)),
);

const imports: Import[] = files.flatMap((file) =>
  [
    ...readFileSync(file, 'utf8').matchAll(
      /(?:from|import\(|import|getBuiltinModule\()\s*'([^']+)'/g,
    ),
  ].map((match) => {
    const name = match[1] ?? '';
    return { file, target: name.startsWith('.') ? normalize(join(dirname(file), name)) : name };
  }),
);

const offenders = (wrong: (entry: Import) => boolean) =>
  imports.filter(wrong).map(({ file, target }) => `${file} imports ${target}`);

/** Parts of the gateway, each of which may import only those after it (and shared). */
const GATEWAY_ORDER = [
  ['main.ts', 'cli'],
  ['app'],
  ['routes'],
  ['access', 'policy', 'jobs', 'plan', 'tuf'],
  ['delta'],
  ['signing', 'upstream', 'store', 'layout'],
];

function gatewayRank(path: string): number {
  const part = path.split('/')[1] ?? '';
  return GATEWAY_ORDER.findIndex(
    (names) => names.includes(part.replace(/\.ts$/, '')) || names.includes(part),
  );
}

describe('imports', () => {
  it('are found at all', () => {
    expect(imports.length).toBeGreaterThan(100);
  });

  it('never cross between gateway and host client', () => {
    const crosses = ({ file, target }: Import) =>
      (file.startsWith('gateway/') && target.startsWith('host-client/')) ||
      (file.startsWith('host-client/') && target.startsWith('gateway/')) ||
      (file.startsWith('shared/') && /^(gateway|host-client)\//.test(target));
    expect(offenders(crosses)).toEqual([]);
  });

  it('bring no network, file system or process into shared', () => {
    const outside =
      /^(node:)?(fs|fs\/promises|net|tls|http|http2|https|dns|dgram|child_process|worker_threads|sqlite)$|^undici$|^hono|^koffi$/;
    expect(
      offenders(({ file, target }) => file.startsWith('shared/') && outside.test(target)),
    ).toEqual([]);
  });

  it('let one module of the host client alone spawn processes', () => {
    const spawners = imports
      .filter(
        ({ file, target }) => file.startsWith('host-client/') && /child_process$/.test(target),
      )
      .map(({ file }) => file);
    expect([...new Set(spawners)].filter((file) => file !== 'host-client/system/run.ts')).toEqual(
      [],
    );
  });

  it('go one way inside the gateway', () => {
    const upwards = ({ file, target }: Import) =>
      file.startsWith('gateway/') &&
      target.startsWith('gateway/') &&
      gatewayRank(target) < gatewayRank(file);
    expect(offenders(upwards)).toEqual([]);
  });

  it('have a known place for every part of the gateway', () => {
    expect(files.filter((file) => file.startsWith('gateway/') && gatewayRank(file) < 0)).toEqual(
      [],
    );
  });
});
