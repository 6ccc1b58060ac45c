import { SnapgateError } from '../../shared/errors.ts';
import { parseRegistryReference } from '../../shared/oci/reference.ts';
import type { Config } from '../config.ts';

/** A configuration that follows what a reference names, and that name as Podman writes it. */
export type NamedTarget = { readonly config: Config; readonly alias: string };

/**
 * What `HOST/REPO[:TAG]`, with or without `docker://`, means on a machine: HOST is that of a gateway,
 * or the one that the policy knows the images by; TAG is `latest` when absent. The line stays that of
 * the configured gateways. Throws REFERENCE_INVALID, CONFIG_INVALID, UNSUPPORTED.
 */
export function targetNamed(text: string, config: Config): NamedTarget {
  const { registry, repository, tag, digest } = parseRegistryReference(
    text.replace(/^docker:\/\//, ''),
  );
  if (digest !== undefined) {
    throw new SnapgateError('UNSUPPORTED', 'an image is followed by its tag, not by its digest', {
      where: text,
      hint: 'Name a tag.',
    });
  }
  const host = config.name.slice(0, config.name.indexOf('/'));
  const known = [host, ...config.gateways.map((gateway) => gateway.host)];
  if (!known.includes(registry)) {
    throw new SnapgateError('CONFIG_INVALID', `no gateway is configured for ${registry}`, {
      where: text,
      hint: `Add it to gateways in the configuration, or name one of ${[...new Set(known)].join(', ')}.`,
    });
  }
  const alias = `${registry}/${repository}:${tag ?? 'latest'}`;
  const isOurs = repository === config.repository || `${registry}/${repository}` === config.name;
  const named = isOurs ? {} : { repository, name: `${host}/${repository}` };
  return { config: { ...config, ...named, tag: tag ?? 'latest' }, alias };
}
