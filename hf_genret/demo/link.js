// The address says what was asked, so that it can be shared.
(query, k, field, value) => {
  const asked = new URLSearchParams();
  if (query) asked.set('q', query.slice(0, 500));
  if (k && k !== 10) asked.set('k', k);
  if (field && value) { asked.set('field', field); asked.set('value', value.slice(0, 500)); }
  const now = new URLSearchParams(location.search);
  if (now.get('__theme')) asked.set('__theme', now.get('__theme'));
  const search = asked.toString() ? '?' + asked.toString() : location.pathname;
  history.replaceState(null, '', search);
  // Inside the frame of a Space the page around it holds the address.
  if (window.parent !== window) {
    window.parent.postMessage({ queryString: asked.toString() }, 'https://huggingface.co');
  }
}
