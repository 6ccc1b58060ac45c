import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Stage } from './stage.ts';

/** One of the two images, as an OCI layout. */
export type DemoImage = {
  readonly name: string;
  readonly layout: string;
  readonly digest: string;
  readonly config: string;
  readonly layers: number;
  /** Manifest, config and compressed layers. */
  readonly bytes: number;
  /** Versions of Debian's packages in it, by name. */
  readonly packages: ReadonlyMap<string, string>;
};

type Descriptor = { readonly digest: string; readonly size: number };

/** Reads what `deploy/demo/images` built. */
export async function readDemoImage(folder: string, name: string): Promise<DemoImage> {
  const layout = join(folder, name);
  const index = JSON.parse(await readFile(join(layout, 'index.json'), 'utf8')) as {
    manifests: [Descriptor];
  };
  const { digest, size } = index.manifests[0];
  const blob = join(layout, 'blobs', digest.replace(':', '/'));
  const manifest = JSON.parse(await readFile(blob, 'utf8')) as {
    config: Descriptor;
    layers: Descriptor[];
  };
  const parts = [manifest.config, ...manifest.layers];
  return {
    name,
    layout,
    digest,
    config: manifest.config.digest,
    layers: manifest.layers.length,
    bytes: parts.reduce((sum, part) => sum + part.size, size),
    packages: await readPackages(join(folder, `${name}.packages`)),
  };
}

async function readPackages(file: string): Promise<Map<string, string>> {
  const lines = (await readFile(file, 'utf8')).trim().split('\n');
  return new Map(lines.map((line) => line.split('\t', 2) as [string, string]));
}

/** Packages that are in both images with different versions, or in one alone. */
export function changedPackages(from: DemoImage, to: DemoImage): string[] {
  const names = new Set([...from.packages.keys(), ...to.packages.keys()]);
  return [...names].filter((name) => from.packages.get(name) !== to.packages.get(name)).sort();
}

/**
 * Makes a third version out of another: one layer more, with `content` as `path`. Its layout shares
 * nothing with the original's.
 */
export async function addLayer(
  stage: Stage,
  from: DemoImage,
  name: string,
  files: Readonly<Record<string, string>>,
): Promise<string> {
  const layout = stage.path(name);
  await stage.run(['cp', '-a', from.layout, layout]);
  for (const [path, source] of Object.entries(files)) {
    await stage.run(['umoci', 'insert', '--image', `${layout}:${from.name}`, source, path]);
  }
  await stage.run(['umoci', 'tag', '--image', `${layout}:${from.name}`, name]);
  return `oci:${layout}:${name}`;
}
