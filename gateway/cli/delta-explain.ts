import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { type CommandContext, stringOption } from '../../shared/cli/command.ts';
import { formatBytes, formatTable } from '../../shared/cli/format.ts';
import {
  COST_KINDS,
  explainLayerDelta,
  type FileCost,
  type LayerCosts,
} from '../../shared/delta/layer-delta/explain.ts';
import type { SourceTree } from '../../shared/delta/piece.ts';
import { SnapgateError } from '../../shared/errors.ts';
import type { ContentReader } from '../../shared/oci/content.ts';
import type { Descriptor } from '../../shared/oci/manifest.ts';
import { LAYER_DELTA, TAR_DIFF } from '../../shared/oci/media-types.ts';
import { fileWorkspace } from '../delta/file-workspace.ts';
import { withHeaders } from '../delta/layer-headers.ts';
import type { ReadDelta } from '../plan/read-delta.ts';
import { readImage } from '../plan/read-image.ts';
import { openOption, platformOption } from './delta-options.ts';
import { treemap } from './treemap.ts';

/** Files listed. */
const LARGEST = 20;

/** Where the bytes of a delta go. Sizes are bytes, about. */
export type Explanation = {
  /** `full`: layers that travel whole; `tar-diff`: deltas of a format that says nothing of files. */
  readonly kinds: Readonly<Record<string, number>>;
  readonly largest: readonly FileCost[];
  /** What its builder could change, for machines to fetch less. */
  readonly advice: readonly string[];
};

export const EXPLAIN_OPTIONS = {
  explain: { type: 'boolean', help: 'show where the bytes go; needs --source' },
  source: { type: 'string', value: 'REF', help: 'the source image, whose headers name the files' },
  svg: { type: 'string', value: 'FILE', help: 'with --explain: draw it as well' },
} as const;

/** Explains a delta when `--explain` asks for it. Throws USAGE without the source image. */
export async function explain(
  context: CommandContext,
  store: ContentReader,
  delta: ReadDelta,
): Promise<Explanation | undefined> {
  if (context.options.explain !== true) return undefined;
  if (stringOption(context.options, 'source') === undefined) {
    throw new SnapgateError('USAGE', '--explain needs --source REF', {
      hint: "The names of unchanged files stand in the source image's layers.",
    });
  }
  const opened = await openOption(context, 'source');
  const platform = platformOption(context);
  const image = await readImage(opened.store, opened.tagOrDigest, platform, context.signal);
  const headers = withHeaders(NO_FILES, { reader: opened.store, image }, fileWorkspace(tmpdir()));
  try {
    const costs = await costsOf(store, [...delta.parts.values()], headers);
    const svg = stringOption(context.options, 'svg');
    if (svg !== undefined) await writeFile(svg, picture(delta.facts.artifact, costs));
    const largest = costs.files.slice(0, LARGEST);
    return { kinds: costs.kinds, largest, advice: adviceOn(costs.files) };
  } finally {
    headers.close();
    await opened.close();
  }
}

const NO_FILES: SourceTree = {
  open(path) {
    throw new SnapgateError('INTERNAL', 'a file of the source was opened', { where: path });
  },
  close() {},
};

type Costs = { kinds: Record<string, number>; files: FileCost[] };

async function costsOf(
  store: ContentReader,
  parts: readonly Descriptor[],
  headers: SourceTree,
): Promise<Costs> {
  const costs: Costs = { kinds: {}, files: [] };
  for (const part of parts) {
    if (part.mediaType !== LAYER_DELTA) {
      const kind = part.mediaType === TAR_DIFF ? 'tar-diff' : 'full';
      costs.kinds[kind] = (costs.kinds[kind] ?? 0) + part.size;
      continue;
    }
    const openHeaders = headers.openHeaders?.bind(headers);
    const layer: LayerCosts = await explainLayerDelta(store.openBlob(part), openHeaders);
    for (const kind of COST_KINDS) costs.kinds[kind] = (costs.kinds[kind] ?? 0) + layer.kinds[kind];
    costs.files.push(...layer.files);
  }
  costs.files.sort((a, b) => b.bytes - a.bytes);
  return costs;
}

function picture(artifact: string, { files }: Costs): string {
  const items = files.map(({ path, kind, bytes }) => ({ name: path, group: kind, bytes }));
  return treemap(`delta ${artifact.slice(7, 19)}`, items);
}

function adviceOn(files: readonly FileCost[]): string[] {
  const total = files.reduce((sum, file) => sum + file.bytes, 0);
  const share = (pattern: RegExp) =>
    files
      .filter(({ path, kind }) => pattern.test(path) && kind !== 'recompressed')
      .reduce((sum, file) => sum + file.bytes, 0) / Math.max(1, total);
  const advice: string[] = [];
  if (share(/(^|\/)(initrd|initramfs)[^/]*$/) > 0.1) {
    advice.push('an initrd that is not compressed (btrfs compresses it) would take far less');
  }
  if (share(/\.ko\.(xz|gz|zst)$/) > 0.1) {
    advice.push('kernel modules that are not compressed would take far less');
  }
  return advice;
}

export function printExplanation(found: Explanation, out: CommandContext['io']['out']): void {
  const total = Object.values(found.kinds).reduce((sum, bytes) => sum + bytes, 0);
  const share = (bytes: number) => `${((100 * bytes) / Math.max(1, total)).toFixed(1)}%`;
  const kinds = Object.entries(found.kinds).filter(([, bytes]) => bytes > 0);
  const rows = kinds.map(([kind, bytes]) => [kind, formatBytes(bytes), share(bytes)]);
  out.write(`\n${formatTable(['kind', 'bytes', 'share'], rows)}`);
  const files = found.largest.map(({ path, kind, bytes }) => [
    Buffer.from(path, 'latin1').toString('utf8'),
    ...[kind, formatBytes(bytes), share(bytes)],
  ]);
  if (files.length > 0) out.write(`\n${formatTable(['file', 'kind', 'bytes', 'share'], files)}`);
  for (const line of found.advice) out.write(`\nadvice: ${line}\n`);
}
