// What HTML cannot do by itself: the token, going from screen to screen, what happens live, keys.
// Everything that is shown is rendered by the relay (/page/…) and swapped in by htmx.
const $ = (selector, from = document) => from.querySelector(selector)
const screen = $('#screen')
const tokenForm = $('#token-form')
const tabs = new BroadcastChannel('otlp-relay')
const seen = new Set()  // ids that came while somebody was reading further down
const charts = new WeakMap()
let token = ''
let isPaused = false
let isDue = false
let lostAt = null
let selection = 0

// -- the token: from the address, this tab, another tab, or a person ---------------------------------

tabs.onmessage = ({data}) => {
  if (data.ask && token) tabs.postMessage({token})
  else if (data.token && !token) begin(data.token)
}

function begin(found) {
  token = found
  sessionStorage.setItem('token', found)
  tokenForm.hidden = true
  show()
  listen()
}

function askForToken(words) {
  token = ''
  sessionStorage.removeItem('token')
  screen.replaceChildren(tokenForm)
  tokenForm.hidden = false
  $('#link').textContent = 'no token'
  if (words) notice(words)
  $('#token').focus()
}

tokenForm.addEventListener('submit', event => {
  event.preventDefault()
  const given = $('#token').value.trim()
  $('#token').value = ''
  notice('')
  if (given) begin(given)
})

// -- screens ---------------------------------------------------------------------------------------------

const fragment = () =>
  '/page' + (location.pathname === '/' ? '/flow' : location.pathname) + location.search

const onScreen = () => $('[data-on]', screen)

async function show(isSame = false) {
  if (!token) return
  isDue = false
  if (!isSame) {
    seen.clear()
    $('#new').hidden = true
  }
  const swap = isSame ? 'innerMorph' : 'innerHTML'
  await htmx.ajax('GET', fragment(), {source: screen, target: screen, swap})
  if (!isSame) scrollTo(0, 0)
}

function go(address) {
  history.pushState(null, '', address)
  notice('')
  show().then(() => screen.focus({preventScroll: true}))
}

addEventListener('popstate', () => show())

document.addEventListener('click', event => {
  const link = event.target.closest('a[href]')
  const isPlain = !(event.ctrlKey || event.metaKey || event.shiftKey || event.button)
  if (link && isPlain && link.origin === location.origin && !link.getAttribute('href').startsWith('#')) {
    event.preventDefault()
    go(link.href)
    return
  }
  const button = event.target.closest('button')
  if (!button) return
  if (button.dataset.copy) navigator.clipboard?.writeText(button.dataset.copy).then(() => say('copied'))
  if (button.dataset.fold) fold(button.dataset.fold === 'close')
  if ('next' in button.dataset) nextMatch()
})

document.addEventListener('submit', event => {
  const form = event.target
  if (form.getAttribute('role') !== 'search') return
  event.preventDefault()
  const place = form.id === 'search' && !/^\/(traces|logs|metrics-view)$/.test(location.pathname)
    ? '/traces' : location.pathname
  const text = form.elements.q.value.trim()
  go(place + (text ? '?' + new URLSearchParams({q: text}) : ''))
})

function settle() {
  const about = onScreen()
  if (about?.dataset.title) document.title = `${about.dataset.title} · otlp-relay`
  for (const link of document.querySelectorAll('nav a')) {
    const path = link.getAttribute('href')
    const isHere = path === '/' ? location.pathname === '/' : location.pathname.startsWith(path)
    link.toggleAttribute('aria-current', isHere)
    if (isHere) link.setAttribute('aria-current', 'page')
  }
  if (/^\/(traces|logs|metrics-view)$/.test(location.pathname) && document.activeElement !== $('#q')) {
    $('#q').value = new URLSearchParams(location.search).get('q') ?? ''
  }
  for (const each of screen.querySelectorAll('time:not([title])')) {
    const at = new Date(each.dateTime)
    const isToday = at.toDateString() === new Date().toDateString()
    each.title = each.dateTime
    each.textContent = isToday ? at.toLocaleTimeString() : at.toLocaleString()
  }
  for (const each of screen.querySelectorAll('[data-chart]')) chart(each)
}

// -- requests ------------------------------------------------------------------------------------------------

document.addEventListener('htmx:config:request', event => {
  event.detail.ctx.request.headers.Authorization = `Bearer ${token}`
})

document.addEventListener('htmx:before:request', event => {
  const {ctx} = event.detail
  if (!('json' in ctx.sourceElement.dataset)) return
  const wanted = {headers: {}}
  for (const [name, value] of new FormData(ctx.sourceElement)) {
    if (!value) continue
    if (name.startsWith('header:')) wanted.headers[name.slice(7)] = value
    else wanted[name] = value
  }
  ctx.request.body = JSON.stringify(wanted)
  ctx.request.headers['Content-Type'] = 'application/json'
})

// Answers of the API are JSON: what a button did, or why something cannot be shown.
document.addEventListener('htmx:after:request', event => {
  const {ctx} = event.detail
  if (!ctx.response.headers.get('content-type')?.includes('json')) return
  event.preventDefault()
  const found = JSON.parse(ctx.text)
  const {done} = ctx.sourceElement.dataset
  if (ctx.response.status === 401) askForToken('That token is not the one of this relay.')
  else if (found.error) {
    notice(found.error)
    if (ctx.sourceElement === screen && ctx.swap === 'innerHTML') screen.replaceChildren()
  }
  else if (found.next) more(ctx, found)
  else {
    say(done ?? 'done')
    show(true)
  }
})

// Dead letters are replayed and discarded a step at a time.
function more(ctx, found) {
  const address = new URL(ctx.request.action, location)
  address.searchParams.set('after', found.next)
  htmx.ajax(ctx.request.method, address.pathname + address.search, {source: ctx.sourceElement, swap: 'none'})
}

document.addEventListener('htmx:after:swap', settle)
document.addEventListener('htmx:error', event => {
  if (event.detail.ctx?.status?.includes('TypeError')) lost()
})

document.addEventListener('htmx:confirm', event => {
  const {ctx, issueRequest, dropRequest} = event.detail
  event.preventDefault()
  const dialog = $('#ask')
  $('#ask-text').textContent = ctx.confirm
  dialog.returnValue = 'no'
  dialog.addEventListener('close', () => dialog.returnValue === 'yes' ? issueRequest() : dropRequest(), {once: true})
  dialog.showModal()
})

// -- what happens ----------------------------------------------------------------------------------------------

const live = $('#live')

function listen() {
  if (!live._htmx) htmx.process(live)  // htmx may have begun before its extension was there
  if (token && !live._htmx?.sse) htmx.trigger(live, 'listen')
}

function say(words) {
  $('#said').textContent = words
}

function notice(words) {
  $('#notice').textContent = words
  $('#notice').hidden = !words
}

function lost() {
  lostAt ??= new Date()
  const words = `not reachable since ${lostAt.toLocaleTimeString()}`
  if ($('#link').textContent !== words) $('#link').textContent = words
  document.body.classList.add('lost')
}

document.addEventListener('htmx:sse:error', lost)
document.addEventListener('htmx:sse:after:connection', event => {
  if (event.target !== live) return
  const wasLost = lostAt
  lostAt = null
  document.body.classList.remove('lost')
  $('#link').textContent = isPaused ? 'paused' : 'live'
  if (wasLost) show(true)
})
setInterval(() => document.hidden || listen(), 2000)
setInterval(() => happened('tick'), 5000)  // rates fall though nothing happens

for (const name of ['arrived', 'backlog', 'destination', 'rejected', 'refused', 'buffer']) {
  live.addEventListener(name, ({detail}) => {
    const data = JSON.parse(detail.data)
    if (name === 'destination') say(`${data.name}, ${data.signal}: ${data.state} ${data.status || ''}`)
    happened(name, data)
  })
}

function happened(name, data) {
  const about = onScreen()
  if (!about) return
  const {trace, spans, rows} = about.dataset
  if (trace && name === 'arrived' && !data.trace_ids.includes(trace)) return
  const isReading = about.dataset.new && (scrollY > 80 || new URLSearchParams(location.search).has('cursor'))
  if (name === 'arrived' && (isReading || isPaused || (trace && +spans > +rows))) {
    for (const id of data.trace_ids) if (!document.getElementById(`t-${id}`)) seen.add(id)
    const count = trace ? 'more spans' : about.dataset.new === 'traces' ? seen.size : 'more'
    $('#new').textContent = `${count} new ▲`
    $('#new').hidden = count === 0
  } else if (!isReading && !isPaused && about.dataset.on.split(' ').includes(name)) {
    isDue = true
  }
}

// Once a second at most, and not while somebody fills in something there.
setInterval(() => {
  const isTyping = document.activeElement?.matches('#screen input, #screen select')
  if (isDue && !isTyping && !document.hidden) show(true)
}, 1000)

$('#new').addEventListener('click', () => {
  const address = new URL(location)
  address.searchParams.delete('cursor')
  go(address)
})

$('#pause').addEventListener('click', () => {
  isPaused = !isPaused
  $('#pause').setAttribute('aria-pressed', isPaused)
  $('#link').textContent = isPaused ? 'paused' : 'live'
  if (!isPaused) show(true)
})

// A test tells each step as it happens; so does adding a destination.
for (const name of ['step', 'done', 'failed']) {
  document.addEventListener(name, event => {
    if (!event.target.dataset || !('steps' in event.target.dataset)) return
    const data = JSON.parse(event.detail.data)
    const {passed, wrong, remedy} = data.test ?? data
    const words = name === 'step'
      ? `${data.signal} ${data.name} ${data.state} (${Math.round(data.seconds * 1000)} ms) ${data.found}`
      : name === 'failed' ? data.error
        : passed ? (data.saved ? `saved in ${data.saved} ${data.blocked} ${data.hint}` : 'passed')
          : `failed: ${wrong} ${remedy}`
    const line = document.createElement('li')
    line.className = name === 'step' ? data.state : name === 'done' && passed ? 'ok' : 'failed'
    line.textContent = words
    $('#steps').append(line)
  })
}
document.addEventListener('htmx:config:request', ({target}) => {
  if (target.dataset && 'steps' in target.dataset) $('#steps').replaceChildren()
})

// -- a trace, a chart, keys ------------------------------------------------------------------------------------

function fold(isClosed) {
  $('#tree').classList.toggle('folded', isClosed)
}

function nextMatch() {
  const {matches, rows} = onScreen().dataset
  const numbers = matches ? matches.split(',').map(Number) : []
  if (!numbers.length) return
  const last = +($('#tree .here')?.dataset.number ?? selection - 1)
  const number = numbers.find(each => each > last) ?? numbers[0]
  const row = document.getElementById(`n-${number}`)
  $('#tree .here')?.classList.remove('here')
  if (row) {
    fold(false)
    row.classList.add('here')
    row.scrollIntoView({block: 'center'})
    $('summary', row).focus({preventScroll: true})
  } else {
    selection = number
    const asked = new URLSearchParams(location.search)
    asked.set('first', Math.floor(number / rows) * rows)
    history.pushState(null, '', `?${asked}`)
    show().then(() => document.getElementById(`n-${number}`) && nextMatch())
  }
}

function chart(figure) {
  const {step, ...lines} = JSON.parse(figure.dataset.chart)
  const keys = [...figure.querySelectorAll('b')].filter(key => lines[key.textContent]?.length > 1)
  if (!keys.length) return
  const {length} = lines[keys[0].textContent]
  const times = lines[keys[0].textContent].map((_, at) => Date.now() / 1000 - (length - 1 - at) * step)
  const data = [times, ...keys.map(key => lines[key.textContent])]
  if (charts.has(figure)) return charts.get(figure).setData(data)
  const axis = {stroke: getComputedStyle(figure).color, grid: {stroke: getComputedStyle(figure).borderColor}}
  const series = keys.map((key, at) => ({stroke: getComputedStyle(key).color, width: 1.5, dash: at ? [6, 3 * at] : []}))
  const size = {width: Math.max(figure.clientWidth - 8, 200), height: 160}
  const more = {axes: [axis, axis], series: [{}, ...series], cursor: {show: false}, legend: {show: false}}
  charts.set(figure, new uPlot({...size, ...more}, data, figure))
}

document.addEventListener('keydown', event => {
  if (event.target.matches('input, textarea, select') || event.ctrlKey || event.metaKey || event.altKey) return
  if (event.key === '/') {
    event.preventDefault()
    $('#q').focus()
  }
  const step = {j: 1, k: -1}[event.key]
  const rows = step ? [...screen.querySelectorAll('[data-row] a, #tree > li > details > summary')] : []
  if (rows.length) rows[Math.max(rows.indexOf(document.activeElement) + step, 0)]?.focus()
})

setTimeout(() => {  // once htmx has begun, which waits for the document in the same way
  const given = new URLSearchParams(location.hash.slice(1)).get('token')
  const kept = given ?? sessionStorage.getItem('token')
  if (given) history.replaceState(null, '', location.pathname + location.search)
  if (kept) return begin(kept)
  tabs.postMessage({ask: true})
  setTimeout(() => token || askForToken(''), 300)
})
