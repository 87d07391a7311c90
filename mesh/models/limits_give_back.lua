-- Corrects a call's buckets and frees its slots.
-- KEYS: buckets, then sets of running calls.
-- ARGV: count of buckets, call id; a bucket: ms to be added to the instant at which it will be full (less than 0: a refund).
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local buckets = tonumber(ARGV[1])
for i = 1, buckets do
  local full_at = math.max(tonumber(redis.call('GET', KEYS[i]) or 0), now) + tonumber(ARGV[2 + i])
  if full_at > now then
    redis.call('SET', KEYS[i], string.format('%.3f', full_at), 'PXAT', string.format('%d', math.ceil(full_at)))
  else
    redis.call('DEL', KEYS[i])
  end
end
for i = buckets + 1, #KEYS do
  redis.call('ZREM', KEYS[i], ARGV[2])
end
