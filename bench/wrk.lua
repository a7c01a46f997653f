-- The steps of a `bench.load.Shape` between wallets of a file, each payment under an idempotency key of its own.
-- Arguments: the file (id, number and token in a line, a dash for whoever does not send), a seed, the beginning of the
-- keys, how many of the file's first wallets send, how many of them receive, the steps with commas between, how many
-- transfers a bulk has, and the query of a history. In the end one line of JSON, after wrk's own report.

local threads = {}
local ids, tails, items, senders, receivers = {}, {}, {}, 0, 0
local key, sent, steps, turn, bulk_items, query = "", 0, {}, 0, 1, ""

function setup(thread)
  threads[#threads + 1] = thread
  thread:set("number", #threads)
end

-- Who pays: not the only receiver, who is the first of the file.
local function payer() return math.random(receivers == 1 and 2 or 1, senders) end

-- Who is paid: somebody else.
local function other(from)
  local to = math.random(receivers)
  while to == from do to = math.random(receivers) end
  return to
end

local function payment(from, path, body)
  sent = sent + 1
  return "POST /users/wallets/" .. ids[from] .. path .. tails[from] .. "\r\nIdempotency-Key: " .. key
    .. string.format("%08d", sent) .. "\r\nContent-Length: " .. #body .. "\r\n\r\n" .. body
end

local function bulk(rest)
  local from, all = payer(), {}
  for i = 1, bulk_items do all[i] = items[other(from)] end
  return payment(from, "/transfers/", '{"transfers":[' .. table.concat(all, ",") .. "]" .. rest)
end

local builders = {
  transfer = function()
    local from = payer()
    return payment(from, "/transfer/", items[other(from)])
  end,
  deposit = function() return payment(math.random(senders), "/deposit/", '{"amount":"1.00"}') end,
  bulk = function() return bulk("}") end,
  atomic = function() return bulk(',"atomic":true}') end,
  wallets = function() return "GET /users/wallets/" .. tails[math.random(senders)] .. "\r\n\r\n" end,
  history = function()
    local from = math.random(senders)
    return "GET /users/wallets/" .. ids[from] .. "/transactions/" .. query .. tails[from] .. "\r\n\r\n"
  end,
}

function init(args)
  local sender_most, receiver_most = tonumber(args[4]), tonumber(args[5])
  created, read, others, sample = 0, 0, "", ""
  counts = {}
  key = string.format("%s-%d-", args[3], number)
  for name in args[6]:gmatch("[^,]+") do steps[#steps + 1] = builders[name] end
  bulk_items, query = tonumber(args[7]), args[8]
  -- Threads that shared a seed would send the same pairs.
  math.randomseed(tonumber(args[2]) * 1000 + number)
  for line in io.lines(args[1]) do
    local id, wallet_number, token = line:match("^(%d+)\t(%d+)\t(%S+)$")
    if senders < sender_most and token ~= "-" then
      senders = senders + 1
      ids[senders] = id
      tails[senders] = " HTTP/1.1\r\nHost: " .. wrk.host .. "\r\nContent-Type: application/json\r\nAuthorization: Bearer "
        .. token
    end
    if receivers < receiver_most then
      receivers = receivers + 1
      items[receivers] = '{"wallet_number":"' .. wallet_number .. '","amount":"1.00"}'
    end
  end
end

function request()
  turn = turn % #steps + 1
  return steps[turn]()
end

function response(status, headers, body)
  if status == 201 then
    created = created + 1
    return
  end
  if status == 200 then
    read = read + 1
    return
  end
  counts[status] = (counts[status] or 0) + 1
  if sample == "" then sample = body end
  -- As text, since wrk hands tables from thread to thread with keys and values exchanged.
  others = ""
  for each, count in pairs(counts) do others = others .. each .. " " .. count .. "\n" end
end

local function quoted(text)
  return '"' .. text:gsub('[%c"\\\128-\255]', function(c) return string.format("\\u%04x", c:byte()) end) .. '"'
end

function done(summary, latency)
  local statuses, first = { ["200"] = 0, ["201"] = 0 }, ""
  for _, thread in ipairs(threads) do
    statuses["200"] = statuses["200"] + thread:get("read")
    statuses["201"] = statuses["201"] + thread:get("created")
    for status, count in thread:get("others"):gmatch("(%d+) (%d+)") do
      statuses[status] = (statuses[status] or 0) + tonumber(count)
    end
    if first == "" then first = thread:get("sample") end
  end
  local pairs_of_json = {}
  for status, count in pairs(statuses) do
    pairs_of_json[#pairs_of_json + 1] = string.format('"%s":%d', status, count)
  end
  local errors = summary.errors
  io.write(string.format(
    '\n{"seconds":%.6f,"statuses":{%s},"broken":%d,"late":%d,"p50_ms":%.3f,"p90_ms":%.3f,"p99_ms":%.3f,"max_ms":%.3f,"sample":%s}\n',
    summary.duration / 1e6, table.concat(pairs_of_json, ","), errors.connect + errors.read + errors.write, errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(90) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3,
    quoted(first)))
end
