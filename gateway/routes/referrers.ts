import { isDigest } from '../../shared/digest.ts';
import { SnapgateError } from '../../shared/errors.ts';
import { OCI_INDEX } from '../../shared/oci/media-types.ts';
import { headerValue } from '../upstream/headers.ts';
import { sendAnswer } from './exchange.ts';
import { clientHeaders, type Exchange, passOn } from './pass-on.ts';

/**
 * The referrers API (distribution specification 1.1, "Listing Referrers"): the registry's own answer
 * where it has one, and otherwise what the fallback tag and the manifests themselves tell.
 */
export async function getReferrers(
  repository: string,
  subject: string,
  call: Exchange,
): Promise<Response> {
  const { c, deps, headers, signal } = call;
  const answer = await passOn(call);
  if (answer.status !== 404) {
    return sendAnswer(call, answer, clientHeaders(answer, repository, call));
  }
  answer.body.on('error', () => {}).resume();
  if (!isDigest(subject)) {
    throw new SnapgateError('UNSUPPORTED', 'referrers are listed for sha256 digests only', {
      where: repository,
    });
  }
  const reader = deps.openRepository(repository, headerValue(headers, 'authorization'));
  const all = await deps.referrers.list(repository, reader, subject, signal);
  const artifactType = c.req.query('artifactType');
  const manifests = artifactType ? all.filter((one) => one.artifactType === artifactType) : all;
  if (artifactType) c.header('OCI-Filters-Applied', 'artifactType');
  c.header('Content-Type', OCI_INDEX);
  return c.body(JSON.stringify({ schemaVersion: 2, mediaType: OCI_INDEX, manifests }));
}
