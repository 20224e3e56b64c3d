// What the page does by itself: leading from a citation to its place and back, and following the
// conversation. Everything is delegated from the document, because the HTML is set anew with each reply.
(() => {
  const byId = (id) => document.getElementById(id);
  const isCalm = () => matchMedia('(prefers-reduced-motion: reduce)').matches;
  const isNarrow = () => matchMedia('(max-width: 899px)').matches; // as in page.css
  const hidesContents = () => matchMedia('(max-width: 1239px)').matches;
  const behaviour = () => (isCalm() ? 'auto' : 'smooth');
  let left = 0; // where the conversation stood when a citation led away from it
  let origin = null; // the citation that led into the transcript

  // On a small screen one pane is seen at a time.
  function view(name) {
    const panes = byId('panes');
    if (!panes || panes.dataset.view === name) return;
    const talk = byId('talk');
    if (name === 'transcript') left = talk.scrollTop;
    panes.dataset.view = name;
    if (name === 'chat') talk.scrollTop = left;
    for (const button of document.querySelectorAll('#switch button')) {
      button.setAttribute('aria-pressed', String(button.dataset.view === name));
    }
  }

  function scrollTo(element, share) {
    const pane = byId('transcript');
    const way = element.getBoundingClientRect().top - pane.getBoundingClientRect().top - pane.clientHeight * share;
    // A glide over many screens would only blur past.
    const isFar = Math.abs(way) > 2 * pane.clientHeight;
    pane.scrollBy({top: way, behavior: isFar ? 'auto' : behaviour()});
  }

  function showQuote(name, takesFocus) {
    const marks = [...byId('transcript').getElementsByClassName(name)];
    if (!marks.length) return;
    document.querySelectorAll('mark.here').forEach((mark) => mark.classList.remove('here'));
    document.querySelectorAll('a.citation[aria-current]').forEach((a) => a.removeAttribute('aria-current'));
    document.querySelectorAll(`a.citation[href="#${name}"]`).forEach((a) => a.setAttribute('aria-current', 'true'));
    marks.forEach((mark) => mark.classList.add('here'));
    scrollTo(marks[0], 0.28);
    if (takesFocus) {
      marks[0].tabIndex = -1;
      marks[0].focus({preventScroll: true});
    }
  }

  function showTurn(id) {
    const turn = byId(id);
    if (!turn) return;
    if (hidesContents()) document.querySelector('.contents details').open = false;
    scrollTo(turn, 0.03);
    turn.tabIndex = -1;
    turn.focus({preventScroll: true});
  }

  async function copy(anchor) {
    try {
      await navigator.clipboard.writeText(anchor.href);
      anchor.textContent = 'Link copied';
    } catch {
      prompt('The link to this quotation', anchor.href);
    }
    setTimeout(() => (anchor.textContent = 'Copy link'), 2000);
  }

  document.addEventListener('click', (event) => {
    const anchor = event.target.closest('#onrecord a[href]');
    const button = event.target.closest('#switch button');
    if (button) return view(button.dataset.view);
    if (!anchor || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const target = anchor.getAttribute('href');
    if (target.startsWith('#q-')) {
      event.preventDefault();
      origin = anchor;
      view('transcript');
      showQuote(target.slice(1), true);
    } else if (target.startsWith('#turn-')) {
      event.preventDefault();
      showTurn(target.slice(1));
    } else if (anchor.classList.contains('permalink')) {
      event.preventDefault();
      copy(anchor);
    }
  });

  // Escape leads back from the transcript to the citation.
  document.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape' || !origin?.isConnected || !event.target.closest('#record')) return;
    view('chat');
    origin.focus();
  });

  document.addEventListener('change', (event) => {
    if (!event.target.matches('[data-filter]')) return;
    const cases = event.target.closest('.cases');
    const wanted = [...cases.querySelectorAll('[data-filter]')].map((s) => [s.dataset.filter, s.value]);
    let shown = 0;
    for (const item of cases.querySelectorAll('details.case')) {
      const fits = wanted.every(([name, value]) => !value || item.dataset[name] === value);
      item.hidden = !fits;
      shown += fits;
    }
    cases.querySelector('output').textContent = `${shown} cases`;
  });

  // The table of contents says where the reader is.
  function followReading() {
    const pane = byId('transcript');
    const line = pane.getBoundingClientRect().top + pane.clientHeight * 0.3;
    let current = null;
    for (const anchor of document.querySelectorAll('.contents a')) {
      const turn = byId(anchor.getAttribute('href').slice(1));
      if (turn && turn.getBoundingClientRect().top <= line) current = anchor;
      anchor.removeAttribute('aria-current');
    }
    if (!current) return;
    current.setAttribute('aria-current', 'location');
    const list = current.closest('ol');
    const top = current.offsetTop - list.offsetTop;
    if (top < list.scrollTop || top + current.offsetHeight > list.scrollTop + list.clientHeight) {
      list.scrollTop = top - list.clientHeight / 3;
    }
  }

  let asked = 0;
  function followConversation() {
    const exchanges = document.querySelectorAll('#conversation .exchange');
    const last = exchanges[exchanges.length - 1];
    if (exchanges.length > asked) {
      const talk = byId('talk');
      view('chat');
      const heading = last.querySelector('h2').getBoundingClientRect().top;
      const top = heading - talk.getBoundingClientRect().top + talk.scrollTop;
      talk.scrollTo({top: Math.max(0, top - 24), behavior: behaviour()});
    }
    asked = exchanges.length;
  }

  let shown = '';
  function followTranscript() {
    const linked = document.querySelector('#transcript [data-show]');
    const last = [...document.querySelectorAll('#conversation .exchange')].pop();
    const name = linked?.dataset.show ?? last?.dataset.show;
    const key = `${asked} ${name}`;
    if (!name || key === shown || !byId('transcript').getElementsByClassName(name).length) return;
    shown = key;
    if (linked) view('transcript');
    if (linked || !isNarrow()) showQuote(name, false);
  }

  function begin() {
    const panes = byId('panes');
    const [conversation, transcript] = [byId('conversation'), byId('transcript')];
    if (!panes || !conversation || !transcript || !document.querySelector('.contents')) return false;
    panes.insertAdjacentHTML(
      'beforebegin',
      '<div id="switch" role="group" aria-label="What is shown">' +
        '<button type="button" data-view="chat" aria-pressed="true">Conversation</button>' +
        '<button type="button" data-view="transcript" aria-pressed="false">Transcript</button></div>',
    );
    panes.dataset.view = 'chat';
    transcript.tabIndex = 0;
    transcript.setAttribute('role', 'region');
    transcript.setAttribute('aria-label', 'Transcript');
    if (hidesContents()) document.querySelector('.contents details').open = false;
    if (!isNarrow()) document.querySelector('#question textarea, #question input')?.focus({preventScroll: true});

    let waits = false;
    const follow = () => {
      if (waits) return;
      waits = true;
      requestAnimationFrame(() => {
        waits = false;
        followConversation();
        followTranscript();
      });
    };
    const options = {childList: true, subtree: true, attributes: true, attributeFilter: ['data-show']};
    new MutationObserver(follow).observe(conversation, options);
    new MutationObserver(follow).observe(transcript, options);
    transcript.addEventListener('scroll', () => requestAnimationFrame(followReading), {passive: true});
    followReading();
    follow();
    return true;
  }

  if (!begin()) {
    const waiting = new MutationObserver(() => begin() && waiting.disconnect());
    waiting.observe(document.body, {childList: true, subtree: true});
  }
})();
