// Filters the list of cases by verdict, kind and words, and opens or closes what is shown.
const form = document.querySelector('.filters');
const cases = [...document.querySelectorAll('#cases details')];

function show() {
  const words = form.words.value.toLowerCase();
  let shown = 0;
  for (const item of cases) {
    item.hidden =
      (form.kind.value && item.dataset.kind !== form.kind.value) ||
      (form.verdict.value && item.dataset.verdict !== form.verdict.value) ||
      (words && !item.textContent.toLowerCase().includes(words));
    shown += !item.hidden;
  }
  form.querySelector('output').textContent = `${shown} of ${cases.length} cases`;
}

form.addEventListener('input', show);
form.toggle.addEventListener('click', ({ target }) => {
  const open = target.textContent === 'Open all';
  for (const item of cases) if (!item.hidden) item.open = open;
  target.textContent = open ? 'Close all' : 'Open all';
});
show();
