import { stat } from 'node:fs/promises';
import {
  type Command,
  type CommandContext,
  requiredOption,
  stringOption,
} from '../../shared/cli/command.ts';
import { formatBytes } from '../../shared/cli/format.ts';
import { SnapgateError } from '../../shared/errors.ts';
import { platformName } from '../../shared/oci/manifest.ts';
import { type LayoutReference, parseReference } from '../../shared/oci/reference.ts';
import { withReferences } from '../layout/open-reference.ts';
import { type BundleContent, exportBundle } from '../plan/export-bundle.ts';
import { readImage } from '../plan/read-image.ts';
import {
  openOption,
  openText,
  PLATFORM_OPTION,
  platformOption,
  REGISTRY_OPTIONS,
} from './delta-options.ts';
import { readMetadataFrom } from './tuf/read-metadata.ts';

/** What `bundle export --json` prints. */
type BundleResult = BundleContent & {
  readonly output: string;
  readonly platform: string;
  /** Size of the archive. */
  readonly bytes: number;
};

export const bundleExportCommand: Command<BundleResult> = {
  name: 'bundle export',
  summary: 'Write an update for machines without a line into one file',
  options: {
    target: {
      type: 'string',
      required: true,
      value: 'REF',
      help: 'the signed image that they should have',
    },
    source: {
      type: 'string',
      value: 'REF',
      help: 'the image that they have: only a published delta goes in (default: all layers)',
    },
    output: {
      type: 'string',
      required: true,
      value: 'oci-archive:FILE[:TAG]',
      help: 'where it goes',
    },
    tuf: {
      ...{ type: 'string', value: 'DIR|URL' },
      help: 'channel metadata to carry along: of a folder, or of a gateway',
    },
    platform: PLATFORM_OPTION,
    ...REGISTRY_OPTIONS,
  },
  run,
  print: ({ output, target, method, signatures, bytes }, { out }) => {
    const what = method === 'delta' ? 'a delta' : 'all layers';
    out.write(`${output}: ${formatBytes(bytes)}: ${what} and ${signatures} signatures\n`);
    out.write(`${target}\n`);
  },
};

async function run(context: CommandContext): Promise<BundleResult> {
  const { options, signal } = context;
  const output = await newArchive(requiredOption(options, 'output'));
  const platform = platformOption(context);
  return withReferences(async (keep) => {
    const target = await keep(openOption(context, 'target'));
    const source =
      options.source === undefined ? undefined : await keep(openOption(context, 'source'));
    const image =
      source === undefined
        ? undefined
        : await readImage(source.store, source.tagOrDigest, platform, signal);
    const to = await keep(openText(context, `oci-archive:${output.path}`, 'write'));
    const from = stringOption(options, 'tuf');
    const metadata = from === undefined ? undefined : await readMetadataFrom(from, signal);
    const content = await exportBundle(to.store, {
      ...{ target: target.store, tagOrDigest: target.tagOrDigest, platform, signal },
      metadata,
      tag: output.tag ?? target.tag ?? 'latest',
      sourceConfig: image?.facts.config,
    });
    await to.commit();
    const { size } = await stat(output.path);
    return { ...content, output: output.path, platform: platformName(platform), bytes: size };
  });
}

/** A bundle holds one update: nothing is added to a file that is there. */
async function newArchive(text: string): Promise<LayoutReference> {
  const reference = parseReference(text);
  if (reference.kind !== 'oci-archive') {
    throw new SnapgateError('USAGE', '--output must be oci-archive:FILE');
  }
  if ((await stat(reference.path).catch(() => undefined)) === undefined) return reference;
  throw new SnapgateError('USAGE', 'the file is there already', {
    where: reference.path,
    hint: 'Name another one, or remove it.',
  });
}
