import { type Command, type CommandContext, stringOption } from '../../../shared/cli/command.ts';
import { SnapgateError } from '../../../shared/errors.ts';
import { parseReference } from '../../../shared/oci/reference.ts';
import { channelPath } from '../../../shared/tuf/roles.ts';
import { describeImages } from '../../tuf/describe-images.ts';
import { addTarget, removeTarget } from '../../tuf/edit.ts';
import { readState } from '../../tuf/state.ts';
import { openText, REGISTRY_OPTIONS } from '../delta-options.ts';
import { DAYS_OPTION, editTime, openFolder, parseChannel } from './options.ts';
import { printSteps, reportOn, type TufReport } from './report.ts';

/** `snapgate tuf add`: states what a tag means, or takes that back. */
export const tufAddCommand: Command<TufReport> = {
  name: 'tuf add',
  summary: 'State which image a tag means; it counts once it is signed and published',
  arguments: 'DIR [REF]',
  options: {
    as: {
      type: 'string',
      value: 'REPOSITORY:TAG',
      help: 'the tag as machines follow it (default: that of a docker:// reference)',
    },
    role: { type: 'string', value: 'ROLE', help: 'who states it (default: targets)' },
    version: {
      type: 'string',
      value: 'V',
      help: "version of the image (default: the image's own annotation or label)",
    },
    'minimum-client': {
      type: 'string',
      value: 'V',
      help: 'the oldest snaphost that may install it',
    },
    remove: { type: 'boolean', help: 'take back what is stated of --as, instead of naming REF' },
    ...DAYS_OPTION,
    ...REGISTRY_OPTIONS,
  },
  run,
  print: printSteps,
};

async function run(context: CommandContext): Promise<TufReport> {
  const { options, positionals } = context;
  const folder = await openFolder(context, 2);
  const state = await readState(folder);
  const role = stringOption(options, 'role') ?? 'targets';
  const { repository, tag } = channelOf(context);
  const path = channelPath(repository, tag);
  if (options.remove === true) {
    await removeTarget(folder, state, role, path, editTime(context));
    return reportOn(folder, [`${path} is to mean nothing any more`]);
  }
  const opened = await openText(context, positionals[1] ?? '');
  try {
    const stored = await opened.store.getManifest(opened.tagOrDigest, context.signal);
    const { images, version: own } = await describeImages(opened.store, stored, context.signal);
    const version = stringOption(options, 'version') ?? own;
    const minimumClient = stringOption(options, 'minimum-client');
    const statement = {
      ...{ path, digest: stored.digest, length: stored.bytes.length, images },
      ...(version === undefined ? {} : { version }),
      ...(minimumClient === undefined ? {} : { minimumClient }),
    };
    await addTarget(folder, state, { role, statement, stored }, editTime(context));
    const what = version === undefined ? '' : `, version ${version}`;
    return await reportOn(folder, [`${path} is to mean ${stored.digest}${what}`]);
  } finally {
    await opened.close();
  }
}

function channelOf({ options, positionals }: CommandContext): { repository: string; tag: string } {
  const as = stringOption(options, 'as');
  if (as !== undefined) return parseChannel(as);
  const text = positionals[1];
  if (text === undefined || options.remove === true) {
    throw new SnapgateError('USAGE', 'name an image, and the tag that is to mean it', {
      hint: 'For example: snapgate tuf add DIR docker://registry.example/os:v2 --as os:stable',
    });
  }
  const ref = parseReference(text);
  if (ref.kind === 'docker' && ref.tag !== undefined) {
    return { repository: ref.repository, tag: ref.tag };
  }
  throw new SnapgateError('USAGE', 'give --as REPOSITORY:TAG, the tag that machines follow');
}
