-- Takes a partition over. KEYS: fence, index of expiry. ARGV: cluster id, topic id, owner.
-- Returns the new epoch and the next offset ('' for none).
local fence = redis.call('HMGET', KEYS[1], 'epoch', 'offset', 'cluster_id', 'topic_id')
local offset = fence[2] or ''
if fence[1] and (fence[3] ~= ARGV[1] or fence[4] ~= ARGV[2]) then
  -- The topic was made anew: what the old one said is void.
  for _, key in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
    redis.call('UNLINK', key)
  end
  redis.call('DEL', KEYS[1], KEYS[2])
  offset = ''
end
-- At least the clock: after a loss, epochs must not begin again where a zombie may stand.
local now = redis.call('TIME')
local epoch = math.max((tonumber(fence[1]) or 0) + 1, now[1] * 1000 + math.floor(now[2] / 1000))
local text = string.format('%.0f', epoch)
redis.call('HSET', KEYS[1], 'epoch', text, 'offset', offset, 'cluster_id', ARGV[1],
  'topic_id', ARGV[2], 'owner', ARGV[3])
return {text, offset}
