import { resolve } from 'node:path';
import { type OptionSpec, type OptionValues, stringOption } from '../../shared/cli/command.ts';
import { SnapgateError } from '../../shared/errors.ts';
import type { ConfigOverrides } from '../config.ts';

const text = (value: string, help: string): OptionSpec => ({ type: 'string', value, help });

/** Options of every command of the host client: each stands for a setting of its configuration. */
export const SETTING_OPTIONS = {
  config: text('FILE', 'configuration file (default: /etc/snaphost/config.json)'),
  gateway: { ...text('URL', 'gateway to ask; may be repeated, tried in order'), multiple: true },
  repository: text('NAME', 'repository of the images'),
  tag: text('TAG', 'tag to follow'),
  name: text('HOST/REPO', 'name of the images in the policy and in Podman'),
  platform: text('OS/ARCH[/VARIANT]', "platform of the images (default: this machine's)"),
  policy: text('FILE', 'policy file (default: /etc/snaphost/policy.json)'),
  'auth-file': text('FILE', 'auth file with the credentials for the gateways'),
  'ca-file': text('FILE', 'certificate authorities to trust, as PEM'),
  root: text('DIR', 'folder that stands for / of the machine'),
  'graph-root': text('DIR', 'storage of Podman (default: what storage.conf says)'),
  'run-root': text('DIR', "Podman's folder for the time until the next boot"),
  'state-dir': text('DIR', 'downloads and records (default: /var/lib/snaphost)'),
  'progress-fd': text('FD', 'write what happens to this file descriptor, as lines of JSON'),
  'deployments-dir': text('DIR', 'bootable snapshots (default: in the state folder)'),
} as const satisfies Readonly<Record<string, OptionSpec>>;

/** What the options of a command line say about the configuration. */
export function overridesFrom(options: OptionValues): ConfigOverrides {
  const gateways = options.gateway;
  // On a command line, unlike in the file, a path may begin where the reader is.
  const path = (name: string) => {
    const given = stringOption(options, name);
    return given === undefined ? undefined : resolve(given);
  };
  return {
    ...{ config: path('config'), root: path('root') },
    ...(Array.isArray(gateways) ? { gateways } : {}),
    repository: stringOption(options, 'repository'),
    tag: stringOption(options, 'tag'),
    name: stringOption(options, 'name'),
    platform: stringOption(options, 'platform'),
    policy: path('policy'),
    authFile: path('auth-file'),
    caFile: path('ca-file'),
    graphRoot: path('graph-root'),
    runRoot: path('run-root'),
    stateDir: path('state-dir'),
    deploymentsDir: path('deployments-dir'),
  };
}

/** Throws USAGE when more positional arguments were given than a command takes. */
export function atMost(positionals: readonly string[], most: number): void {
  const extra = positionals[most];
  if (extra !== undefined) throw new SnapgateError('USAGE', `unexpected argument: ${extra}`);
}
