import {
  type CommandContext,
  type OptionSpec,
  requiredOption,
  stringOption,
} from '../../shared/cli/command.ts';
import { type Platform, parsePlatform } from '../../shared/oci/manifest.ts';
import { parseReference } from '../../shared/oci/reference.ts';
import { type OpenedReference, openReference } from '../layout/open-reference.ts';
import { machinePlatform } from '../plan/read-image.ts';

/** Options of every command that opens references. */
export const REGISTRY_OPTIONS: Readonly<Record<string, OptionSpec>> = {
  authfile: {
    type: 'string',
    value: 'FILE',
    help: 'credentials of registries (default: those of podman login and docker login)',
  },
  insecure: { type: 'boolean', help: 'reach registries by plain HTTP (always so on loopback)' },
};

/** The option that picks an image out of an index. */
export const PLATFORM_OPTION: OptionSpec = {
  type: 'string',
  value: 'OS/ARCH[/VARIANT]',
  help: "platform to take from an image of several (default: this machine's)",
};

/** The option of commands that unpack images. */
export const TEMPORARY_DIR_OPTION: OptionSpec = {
  type: 'string',
  value: 'DIR',
  help: 'where both images are unpacked meanwhile (default: that of the system)',
};

/** Opens the reference that an option holds. Throws USAGE when it is missing, and as openReference. */
export function openOption(
  context: CommandContext,
  option: string,
  mode: 'read' | 'write' = 'read',
): Promise<OpenedReference> {
  return openText(context, requiredOption(context.options, option), mode);
}

/** Opens a reference given as text. */
export function openText(
  context: CommandContext,
  text: string,
  mode: 'read' | 'write' = 'read',
): Promise<OpenedReference> {
  return openReference(parseReference(text), {
    mode,
    authFile: stringOption(context.options, 'authfile'),
    insecure: context.options.insecure === true,
  });
}

/** The platform asked for, or this machine's. Throws USAGE. */
export function platformOption(context: CommandContext): Platform {
  const text = stringOption(context.options, 'platform');
  return text === undefined ? machinePlatform() : parsePlatform(text);
}
