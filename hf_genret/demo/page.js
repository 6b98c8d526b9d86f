// One listener a block of HTML: what carries a prefix opens the browser of ids, what carries a
// query asks it, what carries a link copies it.
const events = ['browse', 'ask'];
element.addEventListener('click', (event) => {
  const target = event.target.closest('[data-prefix],[data-query],[data-link]');
  if (!target) return;
  if (target.dataset.prefix !== undefined) trigger(events[0], { prefix: target.dataset.prefix });
  else if (target.dataset.query !== undefined) trigger(events[1], { query: target.dataset.query });
  else {
    const link = location.href;
    const done = () => { target.textContent = 'Copied'; };
    if (navigator.clipboard) navigator.clipboard.writeText(link).then(done, () => prompt('Link', link));
    else prompt('Link', link);
  }
});
