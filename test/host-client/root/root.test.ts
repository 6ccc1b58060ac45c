import { describe, expect, it } from 'vitest';
import { withMounts } from '../../../host-client/root/fstab.ts';
import {
  bootedDeployment,
  machineMounts,
  machineOptions,
} from '../../../host-client/root/machine-layout.ts';

const devices = { rootUuid: 'r-1', bootUuid: 'AAAA-BBBB', writableRoot: false };

describe('fstab', () => {
  const own = '# mine\nUUID=x /srv ext4 defaults 0 2\n';

  it('gets the mounts of a deployment and keeps the lines of the machine', () => {
    const text = withMounts(own, machineMounts(devices, 'a'));
    expect(text).toMatch(/^# mine\nUUID=x \/srv ext4 defaults 0 2\n# snaphost: .*\n/);
    expect(text).toContain('UUID=r-1 / btrfs subvol=/@deployments/a,ro 0 0\n');
    expect(text).toContain('UUID=r-1 /etc btrfs subvol=/@deployments/a/etc,rw 0 0\n');
    expect(text).toContain('UUID=AAAA-BBBB /efi vfat umask=0077,nofail 0 0\n');
  });

  it('takes those of the next deployment in their place', () => {
    const first = withMounts(own, machineMounts(devices, 'a'));
    const second = withMounts(first, machineMounts(devices, 'b'));
    expect(second).toBe(withMounts(own, machineMounts(devices, 'b')));
  });

  it('drops other lines for the same places', () => {
    const text = withMounts('LABEL=old / ext4 ro 0 1\nLABEL=v /var/ xfs rw 0 0\n', [
      ...machineMounts(devices, 'a'),
    ]);
    expect(text).not.toMatch(/ext4|xfs/);
  });
});

describe('the kernel command line', () => {
  it('names the deployment that it boots', () => {
    const line = machineOptions(devices, 'a-2', ['quiet']);
    expect(line).toBe(
      'root=UUID=r-1 rootflags=subvol=@deployments/a-2 ro snaphost.deployment=a-2 panic=10 quiet',
    );
    expect(bootedDeployment(`initrd=x ${line}\n`)).toBe('a-2');
    expect(bootedDeployment('root=/dev/sda1 xsnaphost.deployment=a')).toBeUndefined();
  });
});
