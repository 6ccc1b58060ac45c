import { createWriteStream } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { type Command, type CommandContext, stringOption } from '../../shared/cli/command.ts';
import { formatBytes, formatSeconds, formatTable } from '../../shared/cli/format.ts';
import type { LayerFormat } from '../../shared/delta/formats.ts';
import { SnapgateError, toSnapgateError } from '../../shared/errors.ts';
import type { ContentWriter } from '../../shared/oci/content.ts';
import { parsePlatform } from '../../shared/oci/manifest.ts';
import { createDelta } from '../delta/create-delta.ts';
import { DEFAULT_LAYER_LIMITS, type ImageSide, openLayer } from '../delta/image-side.ts';
import { fullLayers } from '../delta/layer-plan.ts';
import { installedTools, runTool } from '../delta/other-tools.ts';
import { ownRecompression } from '../delta/zstd-program.ts';
import type { OpenedReference } from '../layout/open-reference.ts';
import { imagePairs } from '../plan/image-pairs.ts';
import { fullBytes } from '../plan/ways.ts';
import { openText, REGISTRY_OPTIONS, TEMPORARY_DIR_OPTION } from './delta-options.ts';
import { ProgressLine } from './progress-line.ts';

/** One way to bring the layers that differ. */
type ComparedWay = {
  readonly way: string;
  /** Bytes of layers on the line; absent when it failed. */
  readonly bytes?: number;
  readonly seconds: number;
  /** Why there is no size, or what is to be known of it. */
  readonly note?: string;
};

/** What `delta compare --json` prints. Sizes are bytes. */
type CompareResult = {
  readonly platform: string;
  readonly source: string;
  readonly target: string;
  readonly fullBytes: number;
  readonly ways: readonly ComparedWay[];
};

const OWN_MEMORY_MIB = 128;

export const deltaCompareCommand: Command<CompareResult> = {
  name: 'delta compare',
  summary: 'Compare an update as a delta of each format and by other tools; takes minutes',
  arguments: 'SOURCE TARGET',
  options: {
    platform: {
      type: 'string',
      value: 'OS/ARCH[/VARIANT]',
      help: 'platform of images of several (default: the first that both have)',
    },
    'temporary-dir': TEMPORARY_DIR_OPTION,
    ...REGISTRY_OPTIONS,
  },
  run,
  print,
};

async function run(context: CommandContext): Promise<CompareResult> {
  const { options, positionals, signal } = context;
  const [from, to] = positionals;
  if (from === undefined || to === undefined || positionals.length > 2) {
    throw new SnapgateError('USAGE', 'delta compare takes two images');
  }
  const opened: OpenedReference[] = [];
  const temporaryFolder = stringOption(options, 'temporary-dir') ?? tmpdir();
  const folder = await mkdtemp(join(temporaryFolder, 'snapgate-compare-'));
  try {
    const named = [];
    for (const text of [from, to]) {
      const one = await openText(context, text);
      opened.push(one);
      named.push({ reader: one.store, tagOrDigest: one.tagOrDigest });
    }
    const [a, b] = named as [(typeof named)[0], (typeof named)[0]];
    const wanted = stringOption(options, 'platform');
    const platform = wanted === undefined ? undefined : parsePlatform(wanted);
    const [pair] = await imagePairs(a, b, platform, signal);
    if (pair === undefined) throw new RangeError('there is no pair');
    const source = { reader: a.reader, ...pair.source };
    const target = { reader: b.reader, ...pair.target };
    return {
      ...{ platform: pair.platform, source: source.stored.digest, target: target.stored.digest },
      fullBytes: fullBytes(target.facts),
      ways: [
        ...(await ownWays(context, source, target, temporaryFolder)),
        ...(await otherWays(source, target, folder, signal)),
      ],
    };
  } finally {
    for (const one of opened.reverse()) await one.close();
    await rm(folder, { recursive: true, force: true });
  }
}

async function ownWays(
  context: CommandContext,
  source: ImageSide,
  target: ImageSide,
  temporaryFolder: string,
): Promise<ComparedWay[]> {
  const recompress = await ownRecompression(OWN_MEMORY_MIB);
  const formats: readonly (readonly [string, LayerFormat])[] = [
    ['snapgate, recompressing', { kind: 'snapgate', recompress }],
    ['snapgate, plain', { kind: 'snapgate' }],
    ['snapgate, tar-diff', { kind: 'tar-diff' }],
  ];
  const ways: ComparedWay[] = [];
  for (const [way, format] of formats) {
    const line = new ProgressLine(context.io, `${way} `);
    const delta = createDelta({
      ...{ source, target, format, temporaryFolder, output: NOWHERE, signal: context.signal },
      onProgress: (fraction) => line.show(fraction),
    });
    const making = delta.then(({ layers }) => layers.reduce((sum, { bytes }) => sum + bytes, 0));
    ways.push(await timed(way, making, context.signal));
    line.clear();
  }
  return ways;
}

/** Other tools, on the tar streams of each layer that has to travel and of the one in its place. */
async function otherWays(
  source: ImageSide,
  target: ImageSide,
  folder: string,
  signal: AbortSignal,
): Promise<ComparedWay[]> {
  const tools = await installedTools();
  const plan = fullLayers(target.facts, [source.facts]);
  const travelling = [...plan.keys()].filter((index) => plan[index]?.kind === 'full');
  const sums = new Map(tools.map(({ name }) => [name, { way: name, bytes: 0, seconds: 0 }]));
  const failures: ComparedWay[] = [];
  for (const index of travelling) {
    const last = source.manifest.layers.length - 1;
    const old = await unpack(source, Math.min(index, last), join(folder, 'old'), signal);
    const fresh = await unpack(target, index, join(folder, 'fresh'), signal);
    for (const tool of tools) {
      const sum = sums.get(tool.name);
      if (sum === undefined) continue;
      const out = join(folder, 'out');
      const one = await timed(tool.name, runTool(tool, { old, fresh, out }, signal), signal);
      await rm(out, { force: true });
      sum.bytes += one.bytes ?? 0;
      sum.seconds += one.seconds;
      if (one.bytes !== undefined) continue;
      sums.delete(tool.name);
      failures.push(one);
    }
  }
  return [...sums.values(), ...failures];
}

async function unpack(image: ImageSide, index: number, file: string, signal: AbortSignal) {
  const tar = openLayer(image, index, DEFAULT_LAYER_LIMITS, signal, () => {});
  await pipeline(tar, createWriteStream(file));
  return file;
}

/** A way that fails is a line of the table, unless everything is to end. */
async function timed(
  way: string,
  making: Promise<number>,
  signal: AbortSignal,
): Promise<ComparedWay> {
  const started = performance.now();
  const seconds = () => (performance.now() - started) / 1000;
  try {
    const bytes = await making;
    return { way, bytes, seconds: seconds() };
  } catch (thrown) {
    signal.throwIfAborted();
    return { way, seconds: seconds(), note: toSnapgateError(thrown).message };
  }
}

/** Takes what is written, and forgets it. */
const NOWHERE: ContentWriter = {
  hasBlob: () => Promise.resolve(false),
  async putBlob(_, body) {
    for await (const _chunk of body);
  },
  putManifest: () => Promise.resolve(),
  listTags: () => Promise.resolve([]),
};

function print(result: CompareResult, { out }: CommandContext['io']): void {
  const { platform, source, target } = result;
  out.write(`${platform}: ${source} to ${target}\n\n`);
  const rows = result.ways.map(({ way, bytes, seconds, note }) => {
    const share = bytes === undefined ? '' : `${((100 * bytes) / result.fullBytes).toFixed(1)}%`;
    const size = bytes === undefined ? (note ?? '') : formatBytes(bytes);
    return [way, size, share, formatSeconds(seconds)];
  });
  out.write(formatTable(['layers by', 'bytes', 'of a full pull', 'made in'], rows));
  out.write(`\na full pull takes ${formatBytes(result.fullBytes)}\n`);
}
