import { open, rm, stat } from 'node:fs/promises';
import { type Command, type CommandContext, stringOption } from '../../shared/cli/command.ts';
import { formatBytes, formatSeconds } from '../../shared/cli/format.ts';
import { SnapgateError } from '../../shared/errors.ts';
import { parseReference } from '../../shared/oci/reference.ts';
import { type ConfigOverrides, loadConfig } from '../config.ts';
import { type InstallReport, install } from '../install/install.ts';
import { update } from '../update/update.ts';
import { withConfig } from './open-machine.ts';
import { atMost, overridesFrom } from './options.ts';

const MIB = 1024 * 1024;

export const installCommand: Command<InstallReport> = {
  name: 'install',
  summary: 'Install a machine onto a disk, or into a disk image to be flashed',
  options: {
    image: { type: 'string', value: 'docker://HOST/REPO[:TAG]', help: 'the image to install' },
    disk: { type: 'string', value: 'DEV', help: 'disk to install onto; needs --erase' },
    erase: { type: 'boolean', help: 'yes, all that is on the disk may be lost' },
    'image-file': { type: 'string', value: 'FILE', help: 'disk image to make' },
    size: { type: 'string', value: 'MIB', help: 'size of the disk image in MiB (default: 8192)' },
    'boot-size': {
      type: 'string',
      value: 'MIB',
      help: 'size of the boot partition in MiB (default: 512)',
    },
    'machine-gateway': {
      type: 'string',
      multiple: true,
      value: 'URL',
      help: 'gateway that the installed machine asks (default: the one installed from)',
    },
    tries: {
      type: 'string',
      value: 'N',
      help: 'how often a new version may try to boot (default: 3)',
    },
    'writable-root': {
      type: 'boolean',
      help: 'let / be written to as well; /etc and /var always can',
    },
    'boot-loader': {
      type: 'string',
      value: 'NAME',
      help: 'systemd-boot or grub (default: systemd-boot)',
    },
    'kernel-option': {
      type: 'string',
      multiple: true,
      value: 'WORD',
      help: 'put at the end of the kernel command line; may be repeated',
    },
  },
  run: runInstall,
  print(report, { out }) {
    out.write(`${report.disk}: deployment ${report.deployment} boots\n`);
    const fetched = formatBytes(report.bytesDownloaded);
    out.write(`${fetched} fetched, ${formatSeconds(report.seconds)}\n`);
  },
};

async function runInstall(context: CommandContext): Promise<InstallReport> {
  atMost(context.positionals, 0);
  const { options } = context;
  const overrides = {
    ...overridesFrom(options),
    ...imageOverrides(stringOption(options, 'image')),
  };
  const settings = await loadConfig({ ...overrides, graphRoot: '/', runRoot: '/' });
  const bootLoader = bootLoaderOption(context);
  const disk = await chooseDisk(context);
  const kernelOptions = options['kernel-option'];
  try {
    return await install({
      ...{ disk: disk.path, isGeneric: disk.isNew },
      settings: { ...settings, ...machineGateways(context) },
      bootBytes: numberOption(context, 'boot-size', 512) * MIB,
      tries: numberOption(context, 'tries', 3),
      writableRoot: options['writable-root'] === true,
      bootLoader,
      kernelOptions: Array.isArray(kernelOptions) ? kernelOptions : [],
      update: (target) =>
        withConfig({ ...settings, ...target }, context, (machine) =>
          update(machine, { signal: context.signal }),
        ),
    });
  } catch (thrown) {
    if (disk.isNew) await rm(disk.path, { force: true });
    throw thrown;
  }
}

/** `--image` says in one word what --gateway, --repository and --tag say in three. */
function imageOverrides(text: string | undefined): ConfigOverrides {
  if (text === undefined) return {};
  const reference = parseReference(text);
  if (reference.kind !== 'docker') {
    throw new SnapgateError('USAGE', '--image must be docker://HOST/REPO[:TAG]', { where: text });
  }
  const { registry, repository, tag } = reference;
  const isLoopback = /^(localhost|127\.|\[::1\])/.test(registry);
  return {
    gateways: [`${isLoopback ? 'http' : 'https'}://${registry}`],
    ...{ repository, tag: tag ?? 'latest' },
  };
}

function machineGateways({ options }: CommandContext): { gateways?: URL[] } {
  const urls = options['machine-gateway'];
  if (!Array.isArray(urls)) return {};
  return {
    gateways: urls.map((text) => {
      const url = URL.parse(text);
      if (url !== null && /^https?:$/.test(url.protocol)) return url;
      throw new SnapgateError('USAGE', `--machine-gateway is no URL: ${text}`);
    }),
  };
}

async function chooseDisk(context: CommandContext): Promise<{ path: string; isNew: boolean }> {
  const [device, file] = ['disk', 'image-file'].map((name) => stringOption(context.options, name));
  if ((device === undefined) === (file === undefined)) {
    throw new SnapgateError('USAGE', 'give either --disk or --image-file');
  }
  if (device !== undefined) {
    const found = await stat(device).catch(() => undefined);
    if (found?.isBlockDevice() !== true) {
      throw new SnapgateError(
        'USAGE',
        found === undefined ? 'there is no such disk' : 'not a disk',
        {
          where: device,
        },
      );
    }
    if (context.options.erase) return { path: device, isNew: false };
    throw new SnapgateError('USAGE', 'all that is on the disk would be lost', {
      where: device,
      hint: 'Add --erase if that is meant.',
    });
  }
  const path = file ?? '';
  const handle = await open(path, 'wx').catch((cause) => {
    throw new SnapgateError('USAGE', 'the disk image cannot be made', { where: path, cause });
  });
  try {
    await handle.truncate(numberOption(context, 'size', 8192) * MIB);
  } finally {
    await handle.close();
  }
  return { path, isNew: true };
}

function bootLoaderOption({ options }: CommandContext): 'systemd-boot' | 'grub' {
  const name = stringOption(options, 'boot-loader') ?? 'systemd-boot';
  if (name === 'systemd-boot' || name === 'grub') return name;
  throw new SnapgateError('USAGE', `--boot-loader is systemd-boot or grub, not ${name}`);
}

function numberOption({ options }: CommandContext, name: string, otherwise: number): number {
  const text = stringOption(options, name);
  if (text === undefined) return otherwise;
  if (/^[1-9]\d{0,6}$/.test(text)) return Number(text);
  throw new SnapgateError('USAGE', `--${name} takes a whole number, not ${text}`);
}
