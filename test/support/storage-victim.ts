/**
 * Puts an image into storage, in a process that tests may kill: the arguments are the graph root, the
 * run root, the layout and the name.
 */
import { openStorage } from '../../host-client/storage/open-storage.ts';
import { installImage } from './podman-storage.ts';

const [graphRoot = '', runRoot = '', layout = '', name = ''] = process.argv.slice(2);
const storage = await openStorage({ graphRoot, runRoot });
const [held] = await storage.listImages();
await installImage(storage, layout, name, held ? { held } : {});
