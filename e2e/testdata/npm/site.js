// An Express application behind serverless-http, as its README has it.
const serverless = require('serverless-http')
const express = require('express')

const app = express()
app.use(express.json())
app.get('/items/:id', (req, res) => res.set('X-Item', req.params.id).json({ id: req.params.id, query: req.query }))
app.post('/items', (req, res) => res.status(201).cookie('seen', 'yes').json({ got: req.body }))
app.get('/picture', (req, res) => res.type('image/png').send(Buffer.from([0x89, 0x50, 0x4e, 0x47, 0, 255])))
app.use((req, res) => res.status(404).send('no such page'))

module.exports.handler = serverless(app, { binary: ['image/*'] })
