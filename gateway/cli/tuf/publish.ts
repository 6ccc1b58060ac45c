import { type Command, type CommandContext, stringOption } from '../../../shared/cli/command.ts';
import { SnapgateError } from '../../../shared/errors.ts';
import { putMetadata, TUF_TAG } from '../../../shared/tuf/artifact.ts';
import { openKeyFile, readPasswordFile } from '../../signing/signer.ts';
import { collectMetadata, collectOffline } from '../../tuf/collect.ts';
import type { TufFolder } from '../../tuf/folder.ts';
import { signOnline } from '../../tuf/online.ts';
import { publishStaged } from '../../tuf/publish.ts';
import { readState } from '../../tuf/state.ts';
import { openText, REGISTRY_OPTIONS } from '../delta-options.ts';
import { numberOption, openFolder } from './options.ts';
import { printSteps, reportOn, type TufReport } from './report.ts';

const HOUR = 3600;
const fileOption = (help: string) => ({ type: 'string', value: 'FILE', help }) as const;
const hoursOption = (help: string) => ({ type: 'string', value: 'N', help }) as const;

/** `snapgate tuf publish`: what was staged becomes what clients see. */
export const tufPublishCommand: Command<TufReport> = {
  name: 'tuf publish',
  summary: 'Publish what is staged and signed; sign snapshot and timestamp where keys are given',
  arguments: 'DIR',
  options: {
    'snapshot-key': fileOption('encrypted private key for the snapshot, where no gateway signs it'),
    'snapshot-password-file': fileOption("that key's password"),
    'timestamp-key': fileOption('encrypted private key for the timestamp'),
    'timestamp-password-file': fileOption("that key's password"),
    'snapshot-hours': hoursOption('how long the snapshot holds (default: 168)'),
    'timestamp-hours': hoursOption('how long the timestamp holds (default: 24)'),
    to: {
      ...{ type: 'string', value: 'REF' },
      help: `write the metadata there too, as one OCI artifact (default tag: ${TUF_TAG})`,
    },
    ...REGISTRY_OPTIONS,
  },
  run,
  print: printSteps,
};

async function run(context: CommandContext): Promise<TufReport> {
  const folder = await openFolder(context);
  const state = await readState(folder);
  const done: string[] = [];
  if (state.staged.size > 0) {
    const published = await publishStaged(folder, state);
    done.push(...published.map(({ role, version }) => `published ${role} ${version}`));
  }
  const online = await signing(context);
  if (online !== undefined) {
    const { snapshot, timestamp } = await signOnline(folder, online, new Date());
    if (snapshot !== undefined) done.push(`signed snapshot ${snapshot}`);
    if (timestamp !== undefined) done.push(`signed timestamp ${timestamp}`);
  }
  const to = stringOption(context.options, 'to');
  if (to !== undefined) done.push(await writeArtifact(context, folder, to));
  if (done.length > 0) return reportOn(folder, done);
  throw new SnapgateError('NOTHING_TO_DO', 'nothing is staged', {
    where: folder.dir,
    hint: 'See snapgate tuf status.',
  });
}

async function signing(context: CommandContext) {
  const open = async (role: 'snapshot' | 'timestamp') => {
    const key = stringOption(context.options, `${role}-key`);
    if (key === undefined) return undefined;
    const file = stringOption(context.options, `${role}-password-file`);
    const password =
      file === undefined ? process.env.COSIGN_PASSWORD : await readPasswordFile(file);
    if (password !== undefined) return openKeyFile(key, password);
    throw new SnapgateError('USAGE', `no password for the ${role} key`, {
      hint: `Give --${role}-password-file or set COSIGN_PASSWORD.`,
    });
  };
  const [snapshot, timestamp] = [await open('snapshot'), await open('timestamp')];
  if (snapshot === undefined && timestamp === undefined) return undefined;
  if (snapshot === undefined || timestamp === undefined) {
    throw new SnapgateError('USAGE', 'snapshot and timestamp are signed together', {
      hint: 'Give both --snapshot-key and --timestamp-key.',
    });
  }
  const snapshotSeconds = (numberOption(context, 'snapshot-hours') ?? 168) * HOUR;
  const timestampSeconds = (numberOption(context, 'timestamp-hours') ?? 24) * HOUR;
  return { snapshot, timestamp, snapshotSeconds, timestampSeconds };
}

async function writeArtifact(
  context: CommandContext,
  folder: TufFolder,
  text: string,
): Promise<string> {
  const hasOnline = (await folder.metadata('timestamp.json')) !== undefined;
  const online = hasOnline
    ? await collectMetadata((name) => folder.metadata(name), folder.dir)
    : new Map();
  const files = new Map([...online, ...(await collectOffline(folder))]);
  const opened = await openText(context, text, 'write');
  try {
    const digest = await putMetadata(opened.store, files, opened.tag ?? TUF_TAG);
    await opened.commit();
    return `wrote ${files.size} files to ${opened.name} (${digest})`;
  } finally {
    await opened.close();
  }
}
