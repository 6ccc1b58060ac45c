import { readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import {
  type Command,
  type CommandContext,
  requiredOption,
  stringOption,
} from '../../shared/cli/command.ts';
import { formatBytes, formatSeconds, formatTable } from '../../shared/cli/format.ts';
import type { LayerFormat } from '../../shared/delta/formats.ts';
import { SnapgateError, toSnapgateError } from '../../shared/errors.ts';
import { parsePlatform } from '../../shared/oci/manifest.ts';
import { parseReference } from '../../shared/oci/reference.ts';
import { peakMemory } from '../../shared/peak-memory.ts';
import type { PlanLayer } from '../../shared/plan.ts';
import { createDelta } from '../delta/create-delta.ts';
import { MAX_EFFORT } from '../delta/effort.ts';
import { ownRecompression } from '../delta/zstd-program.ts';
import { withReferences } from '../layout/open-reference.ts';
import { type ImagePair, imagePairs } from '../plan/image-pairs.ts';
import { fullBytes } from '../plan/ways.ts';
import { openOption, openText, REGISTRY_OPTIONS, TEMPORARY_DIR_OPTION } from './delta-options.ts';
import { ProgressLine } from './progress-line.ts';

/** The delta of one platform. Sizes are bytes. */
type PlatformResult = {
  readonly platform: string;
  /** Manifest digests. */
  readonly source: string;
  readonly target: string;
  /** Digest of the artifact's manifest; absent when the delta was refused. */
  readonly artifact?: string;
  /** Why there is none: it would not be smaller than pulling the image. */
  readonly refused?: string;
  readonly layers: readonly PlanLayer[];
  readonly deltaBytes: number;
  readonly fullBytes: number;
};

/** What `delta create --json` prints: sums over all platforms, and each of them. */
type CreateResult = {
  readonly source: string;
  readonly target: string;
  readonly output: string;
  readonly layers: readonly PlanLayer[];
  readonly deltaBytes: number;
  readonly fullBytes: number;
  readonly platforms: readonly PlatformResult[];
  readonly seconds: number;
  readonly peakRssBytes: number;
};

/** MiB; most machines can spare it. */
const DEFAULT_ENCODER_MEMORY = 128;

export const deltaCreateCommand: Command<CreateResult> = {
  name: 'delta create',
  summary: 'Make the delta that turns one image into another',
  options: {
    source: { type: 'string', required: true, value: 'REF', help: 'the image that machines have' },
    target: {
      type: 'string',
      required: true,
      value: 'REF',
      help: 'the image that they should have',
    },
    output: {
      type: 'string',
      value: 'oci:DIR[:TAG]|oci-archive:FILE[:TAG]',
      help: 'where the delta goes',
    },
    push: { type: 'boolean', help: 'put the delta beside the target, in its repository' },
    format: {
      type: 'string',
      value: 'snapgate|tar-diff',
      help: 'format of the layer deltas (default: snapgate; other tools read tar-diff)',
    },
    'no-recompress': {
      type: 'boolean',
      help: 'diff compressed files as they are: larger, but for any machine',
    },
    platform: {
      type: 'string',
      value: 'OS/ARCH[/VARIANT]',
      help: 'platform of images of several (default: all that both have)',
    },
    'temporary-dir': TEMPORARY_DIR_OPTION,
    'index-dir': {
      type: 'string',
      value: 'DIR',
      help: 'keep what the files are like for further deltas (default: keep nothing)',
    },
    memory: { type: 'string', value: 'MIB', help: 'memory to keep to (default: 1024)' },
    'encoder-memory': {
      type: 'string',
      value: 'MIB',
      help: 'memory that machines have to compress files again (default: 128)',
    },
    effort: {
      type: 'string',
      value: '1-9',
      help: 'how much time goes into fewer bytes (default: 6)',
    },
    threads: { type: 'string', value: 'N', help: 'worker threads (default: one a processor)' },
    ...REGISTRY_OPTIONS,
  },
  run,
  print,
};

async function run(context: CommandContext): Promise<CreateResult> {
  const started = performance.now();
  const { options, signal } = context;
  const format = await formatOption(context);
  const output = outputOption(context);
  const resources = resourceOptions(context);
  return withReferences(async (keep) => {
    const source = await keep(openOption(context, 'source'));
    const target = await keep(openOption(context, 'target'));
    const wanted = stringOption(options, 'platform');
    const pairs = await imagePairs(
      { reader: source.store, tagOrDigest: source.tagOrDigest },
      { reader: target.store, tagOrDigest: target.tagOrDigest },
      wanted === undefined ? undefined : parsePlatform(wanted),
      signal,
    );
    const to = await keep(openText(context, output, 'write'));
    const results: PlatformResult[] = [];
    for (const [i, pair] of pairs.entries()) {
      const line = new ProgressLine(context.io, pairs.length > 1 ? `${pair.platform} ` : '');
      try {
        results.push(
          await makeOne(pair, pairs.length === 1, {
            ...resources,
            format,
            source: { reader: source.store, ...pair.source },
            target: { reader: target.store, ...pair.target },
            output: to.store,
            tag: i === 0 && options.push !== true ? to.tag : undefined,
            signal,
            onProgress: (fraction) => line.show(fraction),
          }),
        );
      } finally {
        line.clear();
      }
    }
    if (results.every((result) => result.artifact === undefined)) throw allRefused(results);
    await to.commit();
    return summary(results, to.name, started);
  });
}

async function makeOne(
  { platform, source, target }: ImagePair,
  isOnly: boolean,
  options: Parameters<typeof createDelta>[0],
): Promise<PlatformResult> {
  const names = {
    platform,
    source: source.stored.digest,
    target: target.stored.digest,
    fullBytes: fullBytes(target.facts),
  };
  try {
    const { manifest, layers, deltaBytes } = await createDelta(options);
    return { ...names, artifact: manifest.digest, layers, deltaBytes };
  } catch (thrown) {
    const error = toSnapgateError(thrown);
    if (isOnly || error.code !== 'DELTA_REFUSED') throw thrown;
    return { ...names, refused: error.message, layers: [], deltaBytes: 0 };
  }
}

function allRefused(results: readonly PlatformResult[]): SnapgateError {
  return new SnapgateError('DELTA_REFUSED', 'no platform has a delta smaller than its image', {
    where: results.map((result) => result.platform).join(', '),
    hint: 'Pull the image as it is.',
  });
}

async function formatOption({ options }: CommandContext): Promise<LayerFormat> {
  const kind = stringOption(options, 'format') ?? 'snapgate';
  if (kind === 'tar-diff') return { kind };
  if (kind === 'snapgate') {
    if (options['no-recompress'] === true) return { kind };
    const memory = wholeNumber(stringOption(options, 'encoder-memory'), 'encoder-memory', 1);
    return { kind, recompress: await ownRecompression(memory ?? DEFAULT_ENCODER_MEMORY) };
  }
  throw new SnapgateError('USAGE', `unknown format: ${kind}`, {
    hint: 'Known are: snapgate, tar-diff.',
  });
}

function outputOption({ options }: CommandContext): string {
  const text = stringOption(options, 'output');
  if (options.push !== true) {
    const output = requiredOption(options, 'output');
    if (parseReference(output).kind !== 'docker') return output;
    throw new SnapgateError('USAGE', '--output must be oci:DIR or oci-archive:FILE', {
      hint: 'With --push the delta goes into the registry, beside the target.',
    });
  }
  const target = requiredOption(options, 'target');
  if (text === undefined && parseReference(target).kind === 'docker') return target;
  throw new SnapgateError('USAGE', '--push goes with a target in a registry, and no --output');
}

function resourceOptions({ options }: CommandContext) {
  const memory = wholeNumber(stringOption(options, 'memory'), 'memory', 512);
  const workers = wholeNumber(stringOption(options, 'threads'), 'threads', 1);
  const effort = wholeNumber(stringOption(options, 'effort'), 'effort', 1, MAX_EFFORT);
  return {
    temporaryFolder: stringOption(options, 'temporary-dir') ?? tmpdir(),
    indexFolder: stringOption(options, 'index-dir'),
    ...(memory === undefined ? {} : { memoryBytes: memory * 1024 * 1024 }),
    ...(workers === undefined ? {} : { workers }),
    ...(effort === undefined ? {} : { effort }),
  };
}

function wholeNumber(
  text: string | undefined,
  name: string,
  least: number,
  most = 999_999_999,
): number | undefined {
  if (text === undefined) return undefined;
  const value = /^\d{1,9}$/.test(text) ? Number(text) : -1;
  if (value >= least && value <= most) return value;
  throw new SnapgateError('USAGE', `--${name} must be a whole number from ${least} to ${most}`);
}

function summary(
  platforms: readonly PlatformResult[],
  output: string,
  started: number,
): CreateResult {
  const sum = (pick: (result: PlatformResult) => number) =>
    platforms.reduce((total, result) => total + pick(result), 0);
  const names = (pick: (result: PlatformResult) => string) => platforms.map(pick).join(',');
  return {
    source: names((result) => result.source),
    target: names((result) => result.target),
    output,
    layers: platforms.flatMap((result) => result.layers),
    deltaBytes: sum((result) => result.deltaBytes),
    fullBytes: sum((result) => result.fullBytes),
    platforms,
    seconds: (performance.now() - started) / 1000,
    peakRssBytes: ownPeakMemory(),
  };
}

function ownPeakMemory(): number {
  const maxRss = process.resourceUsage().maxRSS * 1024;
  try {
    return peakMemory(readFileSync('/proc/self/status', 'latin1'), maxRss);
  } catch {
    return maxRss;
  }
}

function print(result: CreateResult, { out }: CommandContext['io']): void {
  for (const one of result.platforms) {
    out.write(`${one.platform}: ${one.source} to ${one.target}\n\n`);
    if (one.artifact === undefined) {
      out.write(`${one.refused}\n\n`);
      continue;
    }
    const rows = one.layers.map((l) => [l.diffId.slice(7, 19), l.kind, formatBytes(l.bytes)]);
    out.write(formatTable(['layer', 'kind', 'bytes'], rows));
    const share = ((100 * one.deltaBytes) / one.fullBytes).toFixed(1);
    const sizes = `${formatBytes(one.deltaBytes)} of ${formatBytes(one.fullBytes)}`;
    out.write(`\n${sizes} for the whole image (${share}%)\ndelta ${one.artifact}\n\n`);
  }
  const { output, seconds, peakRssBytes } = result;
  const took = `${formatSeconds(seconds)} and at most ${formatBytes(peakRssBytes)} of memory`;
  out.write(`${output}: made in ${took}\n`);
}
