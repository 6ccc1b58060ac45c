import { stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { resolve } from 'node:path';
import {
  type Command,
  type CommandContext,
  requiredOption,
  stringOption,
} from '../../shared/cli/command.ts';
import { formatBytes, formatSeconds, formatTable } from '../../shared/cli/format.ts';
import { SnapgateError } from '../../shared/errors.ts';
import { parseReference } from '../../shared/oci/reference.ts';
import type { PlanLayer } from '../../shared/plan.ts';
import { fileWorkspace } from '../delta/file-workspace.ts';
import { withHeaders } from '../delta/layer-headers.ts';
import type { LayoutStore } from '../layout/layout-store.ts';
import type { OpenedReference } from '../layout/open-reference.ts';
import { readDelta } from '../plan/read-delta.ts';
import { readImage } from '../plan/read-image.ts';
import { openOption, PLATFORM_OPTION, platformOption, REGISTRY_OPTIONS } from './delta-options.ts';
import { type RebuildOptions, rebuildImage } from './delta-rebuild.ts';
import { openSourceFolder } from './source-folder.ts';

/** What `delta apply --json` prints. Sizes are bytes. */
type ApplyResult = {
  readonly target: string;
  readonly manifest: string;
  /** Whether the image has its original manifest, so that its signatures hold. */
  readonly isOriginal: boolean;
  readonly config: string;
  readonly output: string;
  readonly layers: readonly PlanLayer[];
  readonly missing: readonly string[];
  readonly bytesWritten: number;
  readonly seconds: number;
};

export const deltaApplyCommand: Command<ApplyResult> = {
  name: 'delta apply',
  summary: 'Rebuild the target image of a delta from an unpacked source image',
  options: {
    'source-tree': {
      type: 'string',
      required: true,
      value: 'DIR',
      help: 'unpacked root of the image that the delta was made from',
    },
    delta: { type: 'string', required: true, value: 'REF', help: 'the delta artifact' },
    output: {
      type: 'string',
      required: true,
      value: 'oci:DIR[:TAG]',
      help: 'where the image goes',
    },
    source: {
      type: 'string',
      value: 'REF',
      help: 'the source image: unchanged layers are copied from it; deltas of format snapgate need it',
    },
    'temporary-dir': {
      type: 'string',
      value: 'DIR',
      help: 'room for what is kept meanwhile (default: that of the system)',
    },
    platform: PLATFORM_OPTION,
    ...REGISTRY_OPTIONS,
  },
  run,
  print,
};

async function run(context: CommandContext): Promise<ApplyResult> {
  const started = performance.now();
  const root = await sourceRoot(requiredOption(context.options, 'source-tree'));
  const tag = outputTag(requiredOption(context.options, 'output'));
  const opened: OpenedReference[] = [];
  const open = async (option: string, mode: 'read' | 'write') => {
    const found = await openOption(context, option, mode);
    opened.push(found);
    return found;
  };
  const workspace = fileWorkspace(stringOption(context.options, 'temporary-dir') ?? tmpdir());
  let tree = openSourceFolder(root);
  try {
    const from = await open('delta', 'read');
    const delta = await readDelta(from.store, from.tagOrDigest, context.signal);
    const source = await openSource(context, open);
    if (source !== undefined) tree = withHeaders(tree, source, workspace);
    const output = await open('output', 'write');
    const rebuilt = await rebuildImage({
      ...{ delta, from: from.store, tree, workspace, source, tag, signal: context.signal },
      output: output.store as LayoutStore,
      onLayer: (done, total) => {
        if (!context.io.json) context.io.err.write(`layer ${done} of ${total} done\n`);
      },
    });
    await output.commit();
    return {
      target: delta.facts.target,
      manifest: rebuilt.manifest.digest,
      isOriginal: rebuilt.isOriginal,
      config: delta.target.facts.config,
      output: output.name,
      layers: rebuilt.layers,
      missing: rebuilt.missing,
      bytesWritten: rebuilt.bytesWritten,
      seconds: (performance.now() - started) / 1000,
    };
  } finally {
    tree.close();
    for (const one of opened) await one.close();
  }
}

type Open = (option: string, mode: 'read' | 'write') => Promise<OpenedReference>;

async function openSource(context: CommandContext, open: Open): Promise<RebuildOptions['source']> {
  if (stringOption(context.options, 'source') === undefined) return undefined;
  const { store, tagOrDigest } = await open('source', 'read');
  const image = await readImage(store, tagOrDigest, platformOption(context), context.signal);
  return { reader: store, image };
}

async function sourceRoot(path: string): Promise<string> {
  const found = await stat(path).catch(() => undefined);
  if (found?.isDirectory()) return resolve(path);
  throw new SnapgateError('USAGE', 'the source tree is no folder', { where: path });
}

/** Layers come out one after the other and of unknown size, which only a folder can take. */
function outputTag(text: string): string | undefined {
  const ref = parseReference(text);
  if (ref.kind === 'oci') return ref.tag;
  throw new SnapgateError('USAGE', '--output must be oci:DIR[:TAG]', {
    where: text,
    hint: 'Copy it on from there with skopeo.',
  });
}

function print(result: ApplyResult, { out }: CommandContext['io']): void {
  const rows = result.layers.map((l) => [l.diffId.slice(0, 19), l.kind, formatBytes(l.bytes)]);
  out.write(formatTable(['layer', 'kind', 'fetched'], rows));
  const size = formatBytes(result.bytesWritten);
  out.write(`\n${result.output}: ${size} written in ${formatSeconds(result.seconds)}\n`);
  out.write(`image id ${result.config}\n`);
  if (result.isOriginal) out.write(`manifest ${result.manifest}, as published\n`);
  else {
    out.write(`manifest ${result.manifest}, not the published ${result.target}:\n`);
    out.write('its layers are not compressed as they were, so signatures do not fit it\n');
  }
  if (result.missing.length === 0) return;
  out.write(`${result.missing.length} unchanged layers are left out; --source REF adds them\n`);
}
