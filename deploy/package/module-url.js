export const __url = require('node:url').pathToFileURL(process.execPath).href;
