import type { ManPage } from '../../shared/cli/man-page.ts';

/** Fields of the configuration file; a dot leads into an object. */
const SETTINGS: ManPage['settings'] = [
  [
    'gateways',
    'the gateways, or plain registries, in the order in which they are tried, such as ["https://updates.example"]; must be given',
  ],
  ['repository', "the repository of the machine's images, such as edge/os; must be given"],
  ['tag', 'the tag that the machine follows (default: latest)'],
  [
    'name',
    "HOST/REPO as the policy names it and Podman shows it (default: the first gateway's host and the repository)",
  ],
  ['platform', "OS/ARCH[/VARIANT] of the images (default: this machine's)"],
  [
    'policy',
    'who must have signed; without this file everything is refused (default: /etc/snaphost/policy.json)',
  ],
  ['authFile', 'Docker or Podman auth file with the credentials for the gateways (default: none)'],
  [
    'caFile',
    "certificate authorities that the gateways' certificates must come from, as PEM (default: the system's)",
  ],
  ['graphRoot', "Podman's storage (default: what storage.conf says)"],
  ['runRoot', "Podman's folder for the time until the next boot (default: what storage.conf says)"],
  ['stateDir', 'downloads and records (default: /var/lib/snaphost)'],
  [
    'deploymentsDir',
    "bootable snapshots, on the file system of Podman's storage (default: in stateDir)",
  ],
  ['keep', 'deployments that gc keeps besides those that it must keep (default: 1)'],
  ['smallestDelta', 'no delta is made where the whole image takes fewer bytes (default: 1048576)'],
  ['line.bytesPerSecond', 'most bytes a second, on average (default: no limit)'],
  ['line.bytesPerDay', 'most bytes a day; what is left comes the next day (default: no limit)'],
  [
    'line.downloadWindow',
    'when update --automatic may download, in local time: "22:00-06:00", "mon-fri 01:00-05:30; sat,sun 00:00-24:00" (default: always)',
  ],
  ['line.applyWindow', 'when it may change the machine (default: always)'],
  ['line.rebootWindow', 'when it may reboot with --reboot (default: never)'],
  [
    'line.rebootSpreadSeconds',
    'reboots of a fleet are spread over so many seconds; one machine always waits as long (default: 0)',
  ],
  ['health.checkSeconds', 'how long one check may take (default: 120)'],
  [
    'health.gatewaySeconds',
    'how long a gateway may take to be reached after a boot; 0 does not ask (default: 0)',
  ],
  ['reports.send', 'tell the gateway how updates went (default: false)'],
  ['reports.machineId', "with a digest of the machine's id (default: true)"],
  [
    'storage.compress',
    'how the content of new files is kept on the disk: zstd or none (default: zstd)',
  ],
  ['limits.layerBytes', 'longest tar stream of one layer (default: 68719476736)'],
  ['limits.windowLog', 'base-2 logarithm of all windows that are unpacked at once (default: 26)'],
  [
    'limits.encoderBytes',
    "memory that one encoder may take to pack a compressed file again (default: the largest of 32, 128, 256 and 1024 MiB that is at most a quarter of the machine's)",
  ],
  ['waits.answerSeconds', 'until a gateway answers (default: 30)'],
  ['waits.stallSeconds', 'longest pause inside an answer (default: 60)'],
  ['waits.metadataSeconds', 'until all metadata of a channel has come (default: 300)'],
  [
    'waits.deltaSeconds',
    'how long a delta that is not made yet is waited for before the whole image is taken (default: 900)',
  ],
  ['waits.storageSeconds', 'how long Podman may keep its storage locked (default: 600)'],
  ['machine.rootUuid', 'UUID of the btrfs file system; snaphost install writes all of machine'],
  ['machine.bootUuid', 'serial number of the boot partition'],
  ['machine.bootFolder', 'where the boot partition is mounted (default: /efi)'],
  [
    'machine.writableRoot',
    'whether / can be written to; /etc and /var always can (default: false)',
  ],
  ['machine.bootLoader', 'systemd-boot or grub (default: systemd-boot)'],
  ['machine.tries', 'how often a new version may try to boot (default: 3)'],
  ['machine.kernelOptions', 'texts for the end of the kernel command line (default: none)'],
];

/** What the manual says besides the commands. */
export const MANUAL: ManPage = {
  section: 8,
  description: `Updates a machine whose operating system is an image in a registry: it checks the
    signatures by the machine's own policy, fetches only what changed, turns it into snapshots inside
    Podman's storage, and boots into the new version. What does not work is left by itself.

    Every command can be run again after any interruption.`,
  files: [
    ['/etc/snaphost/config.json', 'which image the machine follows, and how'],
    ['/etc/snaphost/policy.json', 'who must have signed; without it everything is refused'],
    ['/etc/snaphost/health.d/required.d/', 'checks that must pass after a boot'],
    ['/etc/snaphost/health.d/wanted.d/', 'checks whose failure is only reported'],
    ['/var/lib/snaphost/', 'downloads and records'],
    ['/run/snaphost/downloads/', 'what a download brings in its first half minute'],
    ['/run/snaphost/status.json', 'what status --json printed after the last change'],
    [
      '/usr/share/doc/snaphost/MACHINE.md',
      'from an empty disk to a machine that updates and goes back',
    ],
  ],
  settings: SETTINGS,
  environment: [
    ['HTTP_PROXY, HTTPS_PROXY, NO_PROXY', 'how gateways are reached'],
    ['SNAPGATE_DEBUG', 'print the stack of internal errors'],
  ],
  examples: [
    [
      'snaphost install --image docker://updates.example/edge/os:stable --disk /dev/sda --erase',
      'makes a machine of an empty disk',
    ],
    ['snaphost update --reboot', 'installs what the tag names and boots it'],
    ['snaphost rollback', 'boots next what ran before; systemctl reboot goes there'],
    ['snaphost list', 'shows what can be booted, and why something was given up'],
  ],
  seeAlso: ['podman(1)', 'btrfs(8)', 'systemd-boot(7)', 'skopeo(1)'],
};
