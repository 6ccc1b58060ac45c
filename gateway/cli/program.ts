import { type Command, type Program, runProgram } from '../../shared/cli/command.ts';
import { withSelfCommands } from '../../shared/cli/self-commands.ts';
import { bundleExportCommand } from './bundle-export.ts';
import { deltaApplyCommand } from './delta-apply.ts';
import { deltaCompareCommand } from './delta-compare.ts';
import { deltaCreateCommand } from './delta-create.ts';
import { deltaInspectCommand } from './delta-inspect.ts';
import { keysGenerateCommand, keysShowCommand } from './keys.ts';
import { policyExportCommand, policyTestCommand } from './policy.ts';
import { serveCommand } from './serve.ts';
import { signCommand } from './sign.ts';
import { tufAddCommand } from './tuf/add.ts';
import { tufDelegateCommand } from './tuf/delegate.ts';
import { tufInitCommand } from './tuf/init.ts';
import { tufPublishCommand } from './tuf/publish.ts';
import { tufRotateCommand } from './tuf/rotate.ts';
import { tufSignCommand } from './tuf/sign.ts';
import { tufStatusCommand } from './tuf/status.ts';
import { verifyCommand } from './verify.ts';

const commands: Program = {
  name: 'snapgate',
  version: '0.1.0',
  summary: 'gateway that sends signed deltas of operating system images',
  commands: [
    serveCommand,
    deltaCreateCommand,
    deltaApplyCommand,
    deltaInspectCommand,
    deltaCompareCommand,
    bundleExportCommand,
    signCommand,
    verifyCommand,
    policyTestCommand,
    policyExportCommand,
    keysGenerateCommand,
    keysShowCommand,
    tufInitCommand,
    tufAddCommand,
    tufSignCommand,
    tufDelegateCommand,
    tufRotateCommand,
    tufPublishCommand,
    tufStatusCommand,
  ] as Command[],
};
const program = withSelfCommands(commands, {
  section: 1,
  description: `Stands in front of a registry, makes signed deltas between the images in it, and serves
    them to machines that run snaphost(8). The other commands make, read and apply deltas, sign and
    verify, write updates into files, and state what tags mean. None of them needs root.

    REF is docker://HOST/REPO[:TAG|@DIGEST], oci:DIR[:TAG] or oci-archive:FILE[:TAG].`,
  files: [
    ['snapgate.yaml', 'configuration of serve; deploy/snapgate.yaml shows every field'],
    [
      '$XDG_RUNTIME_DIR/containers/auth.json, ~/.docker/config.json',
      'credentials of registries, as podman login and docker login keep them',
    ],
  ],
  environment: [
    ['COSIGN_PASSWORD', "a key's password, where --password-file is not given"],
    ['REGISTRY_AUTH_FILE', 'credentials of registries, where --authfile is not given'],
    [
      'BAO_ADDR, BAO_TOKEN, VAULT_ADDR, VAULT_TOKEN',
      'how openbao:// and hashivault:// are reached',
    ],
    ['TRANSIT_SECRET_ENGINE_PATH', 'where the transit engine is mounted (default: transit)'],
    [
      'NODE_COMPILE_CACHE',
      "folder for compiled code (default: snapgate/compiled in the user's cache)",
    ],
    ['SNAPGATE_DEBUG', 'print the stack of internal errors'],
  ],
  examples: [
    ['snapgate serve --config snapgate.yaml', 'runs the gateway'],
    ['snapgate keys generate --output publisher', 'makes publisher.key and publisher.pub'],
    [
      'snapgate sign --key publisher.key docker://registry.example/edge/os:v2',
      'signs an image in its registry',
    ],
    [
      'snapgate delta create --source oci:v1 --target oci:v2 --output oci:delta',
      'makes the delta between two images in folders',
    ],
  ],
  seeAlso: ['snaphost(8)', 'skopeo(1)', 'cosign(1)'],
});

/** Runs the command that the arguments name. Returns the exit status. */
export function runSnapgate(args: readonly string[], signal: AbortSignal): Promise<number> {
  return runProgram(program, [...args], { out: process.stdout, err: process.stderr }, signal);
}
