// Ingest is for operators: what its pages show to everybody else.

import { heading } from '../parts.js';
import { signInFirst } from './sign-in.js';

/** A page for operators. For others nothing is asked of the server; `title` where neither a pipeline nor a run names the page. */
export function forOperators(build, title) {
  return (page) => {
    const refused = signInFirst('operator', 'Pipelines, their runs and what they brought are for operators.');
    if (!refused) {
      build(page);
      return;
    }
    const shown = title ?? page.params.name ?? page.params.id;
    page.title(shown);
    page.view = () => [heading({ title: shown, crumbs: [['Ingest', '#/ingest/pipelines']] }), refused];
  };
}
